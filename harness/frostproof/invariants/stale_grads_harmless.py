"""B's leftover gradients, of parameters that its optimizer does not own, change no training."""

from frostproof.invariants.breach import HELD, Judgements
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import Comparison
from frostproof.spec.case import Role
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial

CLEARING = Comparison(
    "leftover gradients change what B trains: {left} and {right} differ",
    "gradients left on what the optimizer does not own change nothing for what it trains",
)
ROLES: tuple[Role, ...] = ("cleared", "second", "rebuilt")


def judge(trial: Trial, record: EventRecord) -> Judgements:
    mask = record.mask
    if not mask.trainable or not mask.step or not isinstance(record.event, Step):
        return
    for role in ROLES:
        if role in record.observations and ("b", role) not in trial.diverged:
            roles = ("b", role)
            yield CLEARING.difference(trial, record, roles, ("weights",), mask.trainable) or HELD


INVARIANT = Invariant(
    "stale-grads-harmless",
    "B, B with every grad cleared each step, B with a second optimizer that only zeroes what is "
    "frozen, and B with a new optimizer for each mask until that forgets something: same bits on "
    "trainable p",
    judge,
    "https://discuss.pytorch.org/t/58156",
    compares=True,
)
