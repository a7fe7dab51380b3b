"""The same case with the same seed gives the same bits; freezing draws no random numbers."""

from frostproof.invariants.breach import HELD, Judgements
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import PARTS, Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial

TWICE = Comparison(
    "A run twice with one seed differs",
    "the same training with the same seed gives the same bits, whatever new memory held before",
)
DRAWS = Comparison(
    "A and B leave the random number generators in different states: "
    "one draws where the other does not,",
    "freezing draws no random numbers: A and B leave the generator in the same state",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    if "again" in record.observations:
        parts = [name for name in PARTS if name != "states"]
        yield TWICE.difference(trial, record, ("a", "again"), parts) or HELD
    stepped = all(record.observations[role].optimizer_called for role in ("a", "b"))
    if stepped and isinstance(record.event, Step) and ("a", "b") not in trial.diverged:
        yield DRAWS.difference(trial, record, ("a", "b"), ("generators",)) or HELD


INVARIANT = Invariant(
    "repeats-itself",
    "the same case with the same seed gives the same bits, and A and B leave the RNG in the same "
    "state",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/randomness.html",
    compares=True,
    needs_optimizer=False,
    freezing=False,
)
