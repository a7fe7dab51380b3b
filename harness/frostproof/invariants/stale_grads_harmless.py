"""B's leftover gradients, of parameters that its optimizer does not own, change no training."""

from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.invariants.pairs import Comparison
from frostproof.spec.case import Role
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial

CLEARING = Comparison("leftover gradients change what B trains: {left} and {right} differ")
PAIRS: tuple[tuple[Role, Role], ...] = (("b", "cleared"), ("b", "second"), ("b", "rebuilt"))


def judge(trial: Trial, record: EventRecord) -> Judgements:
    mask = record.mask
    if mask.trainable and mask.at_step and isinstance(record.event, Step):
        for roles in PAIRS:
            yield from CLEARING.compare(trial, record, roles, ("weights",), mask.trainable)


INVARIANT = Invariant(
    "stale-grads-harmless",
    "trainable parameters get the same bits in B, in B with every gradient cleared at each step, "
    "in B with a second optimizer that only zeroes the gradients of frozen parameters, and in B "
    "with a new optimizer for each mask (as long as it loses no state)",
    judge,
    "https://discuss.pytorch.org/t/58156",
    compares=True,
    mend="use no gradient of a parameter that the optimizer does not own",
)
