"""Gradual unfreezing: a group that is added during training trains, and leaves the others alone."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.messages import at, first_difference
from frostproof.invariants.movement import moved, stuck
from frostproof.invariants.pairs import Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import Moment, Trial

AB = Comparison(
    "after a group was added at event {since}, B trains unlike A, which had it from the start,",
    "a group that is added trains like one that was there from the start, and leaves the others alone",
    exact=False,
)


def judge(trial: Trial, moment: Moment) -> Judgement:
    seen = moment.seen["b"]
    if seen.added and not seen.stepped:
        before = trial.weights_before(moment, "b")
        if seen.weights != before:
            i = first_difference(range(len(before)), before, seen.weights)
            return Breach(MOVED, ("b",), moment.number, (i,), before[i], seen.weights[i])
    earlier = trial.first_added("b")
    if earlier is None:
        return NOT_JUDGED
    if isinstance(moment.event, Step) and ("a", "b") not in trial.parted:
        differing = AB.differing(
            trial, moment, ("a", "b"), ("weights",), moment.mask.trainable, since=earlier.number
        )
        if differing is not None:
            return differing
    if not moment.last:
        return HELD if isinstance(moment.event, Step) else NOT_JUDGED
    added = tuple(
        i
        for i in earlier.seen["b"].added
        if all(i in each.mask.trainable for each in trial.moments[earlier.number :])
    )
    found = stuck(trial, "b", earlier.number, added)
    if found is not None:
        i, number = found
        return Breach(STUCK, ("b",), moment.number, (i,), found=number, since=earlier.number)
    return HELD if moved(trial, "b", earlier.number, added) else NOT_JUDGED


def _stuck_said(shown: Shown) -> str:
    handed = at(shown.trial.moments[shown.breach.found])
    return f"{shown.name}, in a group added at event {shown.breach.since}, does not train: it had a gradient {handed}, and has not moved"


MOVED = Kind(
    "moved",
    lambda shown: f"add_param_group moved a parameter {shown.at}: {shown.change}",
    lambda shown: shown.keeps("adding a group moves nothing", "add_param_group moved"),
)
STUCK = Kind(
    "stuck",
    _stuck_said,
    lambda shown: shown.moves(
        "what is in a group that was added trains",
        f"{shown.name}, in a group that was added, had a gradient and has not moved",
    ),
    stuck=True,
)

INVARIANT = Invariant(
    id="group-added-trains",
    statement=(
        "add_param_group during training (gradual unfreezing): the group trains, bit for bit as one that was there from the "
        "start, and leaves the others alone"
    ),
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html",
    judge=judge,
    compares=True,
)
