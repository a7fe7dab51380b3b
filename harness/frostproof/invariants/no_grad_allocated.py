"""requires_grad=False costs no gradient: backward leaves `.grad` of a frozen parameter None."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    seen = moment.seen["a"]
    if seen.gradients is None or seen.cleared is None or not moment.frozen.backward:
        return NOT_JUDGED
    for i in moment.frozen.backward:
        if seen.gradients[i] != seen.cleared[i]:
            what = "allocated" if seen.cleared[i] is None else "changed"
            return f"backward {what} the gradient of {trial.case.parameters[i].name}, which is frozen by requires_grad=False, {at(moment)}"
    return HELD


INVARIANT = Invariant(
    id="no-grad-allocated",
    statement="A: backward allocates no p.grad for any p frozen before it, and changes none that was left",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    judge=judge,
    needs_values=False,
    needs_optimizer=False,
)
