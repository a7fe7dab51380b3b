"""requires_grad=False costs no gradient: backward leaves `.grad` of a frozen parameter None."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    gradients = moment.seen["a"].gradients
    if gradients is None or not trial.case.frozen:
        return NOT_JUDGED
    for i in trial.case.frozen:
        if gradients[i] is not None:
            return (
                f"backward allocated the gradient of {trial.case.parameters[i].name}, which is frozen by requires_grad=False, {at(moment)}"
            )
    return HELD


INVARIANT = Invariant(
    id="no-grad-allocated",
    statement="A: after any backward, p.grad is None for all p frozen before it",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    judge=judge,
    needs_values=False,
    needs_optimizer=False,
)
