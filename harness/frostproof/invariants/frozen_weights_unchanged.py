"""Frozen parameters stay, bit for bit, whichever way they were frozen."""

from frostproof.invariants.assertions import moved
from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.invariants.movement import unmoved
from frostproof.training.observation import EventRecord, Trial

MOVED = moved("approach {approach} moved a frozen parameter", " {at}: {change}")


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role in record.observations:
        yield from unmoved(MOVED, record, role, record.mask.frozen_so_far)


INVARIANT = Invariant(
    "frozen-weights-unchanged",
    "a parameter that is frozen from the start keeps its bits in every event, in A and in B",
    judge,
    "https://discuss.pytorch.org/t/58156",
)
