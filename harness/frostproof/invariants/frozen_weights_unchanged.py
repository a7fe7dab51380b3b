"""What is frozen stays, bit for bit, whichever way it was frozen."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Breach, Judgement, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.messages import first_difference
from frostproof.training.observation import Moment, Trial, picker

MOVED = Kind(
    "moved",
    lambda shown: f"approach {shown.approach} moved a frozen parameter {shown.at}: {shown.change}",
    lambda shown: shown.keeps(
        f"{shown.name} is frozen throughout, so no bit of it may change", "moved the frozen"
    ),
)


def judge(trial: Trial, moment: Moment) -> Judgement:
    frozen = moment.mask.frozen_so_far
    if not frozen:
        return NOT_JUDGED
    take = picker(frozen)
    for role, seen in moment.seen.items():
        before = trial.weights_before(moment, role)
        if take(seen.weights) != take(before):
            i = first_difference(frozen, before, seen.weights)
            return Breach(MOVED, (role,), moment.number, (i,), before[i], seen.weights[i])
    return HELD


INVARIANT = Invariant(
    id="frozen-weights-unchanged",
    statement="for all p frozen from the start, all steps, in A and B: bits(p) stay",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
)
