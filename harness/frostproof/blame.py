"""Which invariant a crash breaks: what had happened before it, and whether it crashes without that."""

from __future__ import annotations

from collections.abc import Callable

from frostproof.case import Case
from frostproof.observation import Trial
from frostproof.program import Freeze, Thaw


def blamed(trial: Trial, crashes: Callable[[Case], bool]) -> str:
    """The id of the invariant that `trial.crash` breaks; `crashes` tells whether another case crashes too."""
    crash, case = trial.crash, trial.case
    assert crash is not None
    if crash.phase == "zero_grad":
        return "zero-grad-clears"
    if crash.role.startswith("resumed"):
        return "checkpoint-resumes"
    if crash.index < 0:
        return "gradless-step-is-noop"
    so_far = case.replaced(program=case.program[: crash.index + 1])
    owns_all = crash.role in ("a", "again")
    undropped = so_far.without_drops()
    if undropped != so_far and not crashes(undropped):
        return "gradless-step-is-noop"
    if so_far.thawed and not crashes(so_far.without(Thaw)):
        # A owned from the start what was thawed; the others add what was frozen from the start, which needs no freeze midway.
        added = not owns_all and crashes(so_far.without(Freeze))
        return "group-added-trains" if added else "thaw-resumes"
    if so_far.frozen_midway and not crashes(so_far.without(Freeze)):
        return "gradless-step-is-noop" if owns_all else "freeze-midway-holds"
    return "gradless-step-is-noop"
