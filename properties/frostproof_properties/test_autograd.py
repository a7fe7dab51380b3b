"""What freezing means to autograd itself, with any optimizer: one test per device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frostproof.verification.verification import Verification


@given(data=st.data())
def test_known_failure_of_autograd(verification: Verification, data: st.DataObject) -> None:
    """Fails as expected, if the kernels of this machine show the known failure."""
    verification.judge(data.draw(verification.cases, label="case"))


@given(data=st.data())
def test_autograd(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))
