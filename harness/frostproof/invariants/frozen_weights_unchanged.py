"""What is frozen stays, bit for bit, whichever way it was frozen."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Moment, Trial, picker


def judge(trial: Trial, moment: Moment) -> Judgement:
    frozen = moment.frozen.never
    if not frozen:
        return NOT_JUDGED
    take = picker(frozen)
    for role, seen in moment.seen.items():
        before = trial.weights_before(moment, role)
        if take(seen.weights) != take(before):
            i = first_difference(frozen, before, seen.weights)
            return f"approach {trial.names[role]} moved a frozen parameter {at(moment)}: {change(trial, i, before[i], seen.weights[i])}"
    return HELD


INVARIANT = Invariant(
    id="frozen-weights-unchanged",
    statement="for all p frozen from the start, all steps, in A and B: bits(p) stay",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
)
