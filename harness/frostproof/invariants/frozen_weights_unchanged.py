"""What is frozen stays, bit for bit, whichever way it was frozen."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    if not trial.case.frozen:
        return NOT_JUDGED
    for role, seen in moment.seen.items():
        start = trial.starts[role].weights
        if trial.take_frozen(seen.weights) != trial.take_frozen(start):
            i = first_difference(trial.case.frozen, start, seen.weights)
            return f"approach {trial.names[role]} moved a frozen parameter {at(moment)}: {change(trial, i, start[i], seen.weights[i])}"
    return HELD


INVARIANT = Invariant(
    id="frozen-weights-unchanged",
    statement="for all frozen p, all steps, in A and B: bits(p) stay",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
)
