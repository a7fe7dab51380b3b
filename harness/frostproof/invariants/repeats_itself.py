"""The same case with the same seed gives the same bits; freezing draws no random numbers."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Judgement
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import Comparison, Part
from frostproof.spec.program import Step
from frostproof.training.observation import Moment, Trial

TWICE = Comparison(
    "A run twice with one seed differs",
    "the same training with the same seed gives the same bits, whatever new memory held before",
)
DRAWS = Comparison(
    "A and B leave the random number generators in different states: one draws where the other does not,",
    "freezing draws no random numbers: A and B leave the generator in the same state",
)


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement: Judgement = NOT_JUDGED
    if "again" in moment.seen:
        parts: tuple[Part, ...] = ("weights", "losses", "gradients", "buffers", "generators")
        found = TWICE.differing(trial, moment, ("a", "again"), parts)
        if found is not None:
            return found
        judgement = HELD
    if (
        ("a", "b") not in trial.parted
        and isinstance(moment.event, Step)
        and moment.seen["a"].stepped
        and moment.seen["b"].stepped
    ):
        return DRAWS.differing(trial, moment, ("a", "b"), ("generators",)) or HELD
    return judgement


INVARIANT = Invariant(
    id="repeats-itself",
    statement="the same case with the same seed gives the same bits, and A and B leave the RNG in the same state",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/notes/randomness.html",
    judge=judge,
    compares=True,
    needs_optimizer=False,
    freezing=False,
)
