"""What freezing means to autograd itself, whatever the optimizer: one test per device."""

from __future__ import annotations

from frostproof.profile import for_meta
from frostproof.verification import Verification
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = settings().max_examples


@given(data=st.data())
def test_autograd(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))


@settings(max_examples=for_meta(EXAMPLES))
@given(data=st.data())
def test_autograd_on_meta(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))
