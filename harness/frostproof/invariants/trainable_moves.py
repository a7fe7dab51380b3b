"""Something trains: without that, a trial of frozen weights proves nothing."""

from collections import Counter

from frostproof.invariants.breach import HELD, NOT_JUDGED, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.movement import due, poisoned
from frostproof.training.observation import Moment, Trial, picker


def judge(trial: Trial, moment: Moment) -> Judgement:
    if not moment.last:
        return NOT_JUDGED
    # Any moment, and not the end alone: steps of one size may lead back to the start.
    for each in reversed(trial.moments):
        take = picker(each.mask.trainable)
        if take(each.seen["a"].weights) != take(trial.weights_before(each, "a")):
            return HELD
    stepped = [each for each in trial.moments if each.seen["a"].stepped]
    missed: Counter[int] = Counter()
    for earlier in stepped:
        if earlier.seen["a"].closure is not None and earlier is not stepped[0]:
            continue  # what it remembers may tell a line search to stay
        for i in earlier.mask.trainable:
            missed[i] += due(trial, earlier, "a", i)
            if missed[i] >= trial.subject.patience and not poisoned(trial, "a", i):
                return Breach(STUCK, ("a",), moment.number, (i,), found=earlier.number)
    return NOT_JUDGED


def _said(shown: Shown) -> str:
    events, number = len(shown.trial.moments), shown.breach.found
    return f"no trainable parameter moved in {events} events, though {shown.name} had a gradient at event {number}"


STUCK = Kind(
    "stuck",
    _said,
    lambda shown: shown.moves(
        f"{shown.name} is trainable and gets a gradient, so it moves",
        f"{shown.name} had a gradient, and nothing that is trainable has moved",
    ),
    stuck=True,
)

INVARIANT = Invariant(
    id="trainable-moves",
    statement="some trainable element with a non-zero gradient moves",
    severity="wrong",
    source="a trial in which nothing trains proves nothing",
    judge=judge,
)
