"""Every invariant holds for every optimizer, on every device, for random networks, masks and training programs.

One test per optimizer, implementation and device. An example draws a case and runs it once, under all approaches in
lockstep; every invariant judges that one trial. The plugin gives `verification` its values, and the settings.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frostproof.verification.verification import Verification


@given(data=st.data())
def test_known_failure(verification: Verification, data: st.DataObject) -> None:
    """Fails as it is expected to, at the smallest case that shows what is known to be wrong."""
    verification.judge(data.draw(verification.cases, label="case"))


@given(data=st.data())
def test_optimizer(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))


@given(data=st.data())
def test_optimizer_on_meta(verification: Verification, data: st.DataObject) -> None:
    verification.judge(data.draw(verification.cases, label="case"))
