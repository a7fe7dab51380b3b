"""Frozen parameters stay, bit for bit, whichever way they were frozen."""

from frostproof.invariants.assertions import stays
from frostproof.invariants.breach import Judgements, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.movement import unmoved
from frostproof.training.observation import EventRecord, Trial

MOVED = Kind(
    "moved",
    "approach {approach} moved a frozen parameter {at}: {change}",
    "{name} is frozen throughout, so no bit of it may change",
    stays("moved the frozen"),
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role in record.observations:
        yield from unmoved(MOVED, record, role, record.mask.never)


INVARIANT = Invariant(
    "frozen-weights-unchanged",
    "for all p frozen from the start, all steps, in A and B: bits(p) stay",
    judge,
    "https://discuss.pytorch.org/t/58156",
)
