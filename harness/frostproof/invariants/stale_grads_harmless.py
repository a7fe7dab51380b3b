"""B leaves gradients behind on what it does not own. They change nothing for what it trains."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Moment, Trial, picker
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    trainable = moment.frozen.trainable
    if not trainable or not moment.frozen.step or not isinstance(moment.event, Step):
        return NOT_JUDGED
    judgement, take = NOT_JUDGED, picker(trainable)
    b = moment.seen["b"].weights
    for role in ("cleared", "second", "rebuilt"):
        if role not in moment.seen or ("b", role) in trial.parted:
            continue
        other = moment.seen[role].weights
        if take(b) != take(other):
            i = first_difference(trainable, b, other)
            return f"B and {trial.names[role]} differ {at(moment)} (B -> {trial.names[role]}): {change(trial, i, b[i], other[i])}"
        judgement = HELD
    return judgement


INVARIANT = Invariant(
    id="stale-grads-harmless",
    statement=(
        "B, B with every grad cleared each step, B with a second optimizer that only zeroes what is frozen, and B with a new "
        "optimizer for each mask until that forgets something: same bits on trainable p"
    ),
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    compares=True,
)
