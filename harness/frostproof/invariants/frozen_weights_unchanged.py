"""Frozen parameters stay, bit for bit, whichever way they were frozen."""

from frostproof.invariants.assertions import LEFT_TRAINABLE, left_trainable, moved, unmoved
from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.training.observation import EventRecord, Trial

MOVED = moved("approach {approach} moved a frozen parameter", " {at}: {change}", whole_event=True)
FREE = moved(LEFT_TRAINABLE, " {at}: {change}", whole_event=True, by_way=True)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        for i in record.mask.frozen_so_far:
            kind = FREE if left_trainable(role, observed, i) else MOVED
            yield from unmoved(kind, trial, record, role, (i,))


INVARIANT = Invariant(
    "frozen-weights-unchanged",
    "a parameter that is frozen from the start keeps its bits in every event, in A and in B",
    judge,
    "https://discuss.pytorch.org/t/58156",
    mend="skip a parameter whose grad is None before anything is done to it, weight decay and "
    "averages included",
)
