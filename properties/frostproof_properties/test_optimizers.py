"""Every invariant holds for every optimizer, on random networks, masks and training programs.

There is one test for each optimizer, implementation and device. An example draws a case and runs it
once, under all approaches in lockstep, and every invariant judges this one trial. The plugin gives
the tests their values of `verification`, and their settings.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frostproof.verification.verification import Verification


@given(data=st.data())
def test_known_failure(verification: Verification, data: st.DataObject) -> None:
    """Fails as expected, at the smallest case that shows the known failure."""
    verification.judge(data.draw(verification.cases, label="case"))


@given(data=st.data())
def test_optimizer(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))
