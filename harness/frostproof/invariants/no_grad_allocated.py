"""requires_grad=False costs no gradient: backward leaves `.grad` of a frozen parameter None."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import Moment, Trial


def _said(what: str) -> Kind:
    def message(shown: Shown) -> str:
        return f"backward {what} the gradient of {shown.name}, which is frozen by requires_grad=False, {shown.at}"

    def assertion(shown: Shown) -> Assertion:
        expected = f"{shown.name} has requires_grad=False, so backward leaves its .grad alone"
        text, grad = (
            f"backward {what} the gradient of {shown.name}, which is frozen",
            f"{shown.tensor}.grad",
        )
        if what == "allocated":
            return shown.noted(expected, "gradients", shown.exits_if(f"{grad} is not None", text))
        found = shown.noted(
            expected, "gradients", shown.exits_if(f"not torch.equal(before, {grad})", text)
        )
        found.notes[shown.breach.event, "cleared"] = [f"before = {grad}.clone()"]
        return found

    return Kind(what, message, assertion)


ALLOCATED, CHANGED = _said("allocated"), _said("changed")


def judge(trial: Trial, moment: Moment) -> Judgement:
    seen = moment.seen["a"]
    if seen.gradients is None or seen.cleared is None or not moment.mask.in_backward:
        return NOT_JUDGED
    for i in moment.mask.in_backward:
        if seen.gradients[i] != seen.cleared[i]:
            kind = ALLOCATED if seen.cleared[i] is None else CHANGED
            return Breach(kind, ("a",), moment.number, (i,), seen.cleared[i], seen.gradients[i])
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
