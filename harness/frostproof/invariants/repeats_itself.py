"""The same case with the same seed gives the same bits; freezing draws no random numbers."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    a, b, again = moment.seen["a"], moment.seen["b"], moment.seen.get("again")
    judgement = NOT_JUDGED
    if again is not None:
        if a.weights != again.weights:
            i = first_difference(range(len(a.weights)), a.weights, again.weights)
            return f"A run twice with one seed differs {at(moment)} (once -> again): {change(trial, i, a.weights[i], again.weights[i])}"
        if (a.losses, a.gradients, a.buffers, a.generators) != (again.losses, again.gradients, again.buffers, again.generators):
            return f"A run twice with one seed differs in loss, gradients, buffers or random state {at(moment)}"
        judgement = HELD
    if ("a", "b") not in trial.parted and (isinstance(moment.event, Step) and a.stepped and b.stepped):
        if a.generators != b.generators:
            return f"A and B leave the random number generators in different states {at(moment)}: one draws where the other does not"
        judgement = HELD
    return judgement


INVARIANT = Invariant(
    id="repeats-itself",
    statement="the same case with the same seed gives the same bits, and A and B leave the RNG in the same state",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/notes/randomness.html",
    judge=judge,
    compares=True,
    needs_optimizer=False,
)
