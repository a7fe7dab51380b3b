"""B leaves gradients behind on what it does not own. They change nothing for what it trains."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Judgement
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import Moment, Trial

CLEARING = Comparison(
    "leftover gradients change what B trains: {left} and {right} differ",
    "gradients left on what the optimizer does not own change nothing for what it trains",
)


def judge(trial: Trial, moment: Moment) -> Judgement:
    trainable = moment.mask.trainable
    if not trainable or not moment.mask.at_step or not isinstance(moment.event, Step):
        return NOT_JUDGED
    judgement: Judgement = NOT_JUDGED
    for role in ("cleared", "second", "rebuilt"):
        if role not in moment.seen or ("b", role) in trial.parted:
            continue
        found = CLEARING.differing(trial, moment, ("b", role), ("weights",), trainable)
        if found is not None:
            return found
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
