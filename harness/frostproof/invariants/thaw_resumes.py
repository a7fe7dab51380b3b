"""Unfrozen, a parameter trains: with the state that it had, or with none."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.messages import at
from frostproof.invariants.movement import moved, stuck
from frostproof.spec.program import Thaw, mask_changes
from frostproof.training.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    if not moment.last:
        return NOT_JUDGED
    judgement: Judgement = NOT_JUDGED
    for earlier in trial.moments:
        names = [
            name
            for each in mask_changes(earlier.event)
            if isinstance(each, Thaw)
            for name in each.names
        ]
        thawed = tuple(
            i
            for i in map(trial.case.positions.__getitem__, names)
            if _trains_since(trial, earlier.number, i)
        )
        for role in ("a", "b"):
            found = stuck(trial, role, earlier.number, thawed)
            if found is not None:
                i, number = found
                return Breach(
                    STUCK, (role,), moment.number, (i,), found=number, since=earlier.number
                )
            if moved(trial, role, earlier.number, thawed):
                judgement = HELD
    return judgement


def _trains_since(trial: Trial, number: int, i: int) -> bool:
    """Whether parameter `i` was frozen before the event with this number, and is trainable from then to the end."""
    frozen = (
        trial.case.initially_frozen if number == 0 else trial.case.mask_timeline[number - 1].at_step
    )
    return i in frozen and all(i in moment.mask.trainable for moment in trial.moments[number:])


def _said(shown: Shown) -> str:
    return (
        f"{shown.name}, thawed at event {shown.breach.since}, does not train in approach {shown.approach}: "
        f"it had a gradient {at(shown.trial.moments[shown.breach.found])}, and has not moved since it was thawed"
    )


STUCK = Kind(
    "stuck",
    _said,
    lambda shown: shown.moves(
        "once thawed, a parameter with a gradient trains again",
        f"{shown.name} was thawed, had a gradient, and has not moved since",
    ),
    stuck=True,
)

INVARIANT = Invariant(
    id="thaw-resumes",
    statement="unfrozen later: step() does not raise, and the parameter trains again",
    severity="wrong",
    source="https://discuss.pytorch.org/t/71917",
    judge=judge,
)
