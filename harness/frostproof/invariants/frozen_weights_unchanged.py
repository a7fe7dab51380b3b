"""Frozen parameters stay, bit for bit, whichever way they were frozen."""

from frostproof.invariants.assertions import moved, unmoved
from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.training.observation import EventRecord, Trial

MOVED = moved("approach {approach} moved a frozen parameter", " {at}: {change}", whole_event=True)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role in record.observations:
        yield from unmoved(MOVED, trial, record, role, record.mask.frozen_so_far)


INVARIANT = Invariant(
    "frozen-weights-unchanged",
    "a parameter that is frozen from the start keeps its bits in every event, in A and in B",
    judge,
    "https://discuss.pytorch.org/t/58156",
)
