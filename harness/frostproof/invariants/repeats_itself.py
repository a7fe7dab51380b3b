"""The same case with the same seed gives the same bits; freezing draws no random numbers."""

from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.invariants.pairs import PARTS, Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial

TWICE = Comparison("A run twice with one seed differs")
DRAWS = Comparison(
    "A and B leave the random number generators in different states: "
    "one draws where the other does not,"
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    parts = [name for name in PARTS if name != "states"]
    yield from TWICE.compare(trial, record, ("a", "again"), parts)
    stepped = all(record.observations[role].optimizer_called for role in ("a", "b"))
    if stepped and isinstance(record.event, Step):
        yield from DRAWS.compare(trial, record, ("a", "b"), ("generators",))


INVARIANT = Invariant(
    "repeats-itself",
    "the same case with the same seed gives the same bits, and A and B leave the random number "
    "generators in the same state",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/randomness.html",
    compares=True,
    needs_optimizer=False,
    freezing=False,
    violation_class="randomness",
    mend="draw random numbers from torch's generator of the device, and loop over lists "
    "instead of sets",
)
