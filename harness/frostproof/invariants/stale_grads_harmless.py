"""B leaves gradients behind on what it does not own. They change nothing for what it trains."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    if not trial.case.trainable or not trial.case.frozen or not isinstance(moment.event, Step):
        return NOT_JUDGED
    judgement = NOT_JUDGED
    b = moment.seen["b"].weights
    for role in ("cleared", "second"):
        if role in moment.seen:
            other = moment.seen[role].weights
            if trial.take_trainable(b) != trial.take_trainable(other):
                i = first_difference(trial.case.trainable, b, other)
                return f"B and {trial.names[role]} differ {at(moment)} (B -> {trial.names[role]}): {change(trial, i, b[i], other[i])}"
            judgement = HELD
    return judgement


INVARIANT = Invariant(
    id="stale-grads-harmless",
    statement=(
        "B, B with every grad cleared each step, and B with a second optimizer that only zeroes what is frozen: same bits on trainable p"
    ),
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    compares=True,
)
