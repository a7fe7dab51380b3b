"""What freezing means to autograd itself, whatever the optimizer: one test per device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frostproof.verification.verification import Verification


@given(data=st.data())
def test_known_failure_of_autograd(verification: Verification, data: st.DataObject) -> None:
    """Fails as it is expected to, where this machine's kernels show it."""
    verification.judge(data.draw(verification.cases, label="case"))


@given(data=st.data())
def test_autograd(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))


@given(data=st.data())
def test_autograd_on_meta(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))
