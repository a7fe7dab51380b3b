"""step(closure) runs the closure where gradients can be computed, and hands its loss back."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import ClosureUse, Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        if seen.closure is None:
            continue
        fault = fault_of(seen.closure, trial.case.dtype)
        if fault:
            return f"step(closure) {fault} {at(moment)}, approach {trial.names[role]}"
        judgement = HELD
    return judgement


def fault_of(use: ClosureUse, dtype: str) -> str:
    """What is wrong with the way the closure was used; empty where nothing is."""
    if not use.grad_enabled:
        return "called the closure with gradients disabled: wrap the call in torch.enable_grad()"
    if use.calls == 0:
        return "never called the closure"
    if use.returned in use.losses:
        return ""
    if isinstance(use.returned, float):
        from frostproof.bits import values

        if use.returned in [value for loss in use.losses for value in values(loss, dtype)]:
            return ""
    returned = "a tensor" if isinstance(use.returned, bytes) else repr(use.returned)
    return f"returned {returned:.80}, which is none of the losses that the closure returned"


INVARIANT = Invariant(
    id="closure-is-honoured",
    statement="step(closure) runs it with grad enabled and returns its loss",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/optim.html#taking-an-optimization-step",
    judge=judge,
    needs_values=False,
)
