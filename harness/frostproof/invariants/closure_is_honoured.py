"""step(closure) runs the closure where gradients can be computed, and hands its loss back."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import ClosureUse, Moment, Trial

EXPECTED = "step(closure) runs the closure with gradients enabled, and returns its loss"


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement: Judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        if seen.closure is None:
            continue
        kind = _fault_of(seen.closure, trial.case.dtype)
        if kind is not None:
            return Breach(kind, (role,), moment.number, found=seen.closure.returned)
        judgement = HELD
    return judgement


def _fault_of(use: ClosureUse, dtype: str) -> Kind | None:
    """What is wrong with the way the closure was used; None where nothing is."""
    if not use.grad_enabled:
        return GRAD_DISABLED
    if use.calls == 0:
        return NOT_CALLED
    if use.returned in use.losses:
        return None
    if isinstance(use.returned, float):
        from frostproof.training.bits import values

        if use.returned in [value for loss in use.losses for value in values(loss, dtype)]:
            return None
    return OTHER_LOSS


def _other_loss(shown: Shown) -> str:
    found = shown.breach.found
    returned = "a tensor" if isinstance(found, bytes) else repr(found)
    return f"step(closure) returned {returned:.80}, which is none of the losses that the closure returned {shown.where}"


def _enabled(shown: Shown) -> Assertion:
    return shown.noted(
        EXPECTED,
        "called",
        shown.exits_if("not torch.is_grad_enabled()", "called the closure with gradients disabled"),
    )


def _returns_loss(shown: Shown) -> Assertion:
    found = shown.noted(EXPECTED, "before", "losses = []")
    loss = "total" if getattr(shown.moment.event, "micro_batches", 1) > 1 else "loss"
    if shown.device == "meta":  # there are no values to compare
        found.notes[shown.breach.event, "returning"] = [f"losses.append({loss})"]
        text = "step(closure) returned {returned!r:.200}, and the closure a loss"
        found.verdict = [shown.exits_if("not isinstance(returned, torch.Tensor)", text)]
    else:
        found.notes[shown.breach.event, "returning"] = [f"losses.append({loss}.item())"]
        value = "returned.item() if isinstance(returned, torch.Tensor) else returned"
        text = "step(closure) returned {returned!r:.200}, and the closure {losses}"
        found.verdict = [shown.exits_if(f"({value}) not in losses", text)]
    return found


def _called(shown: Shown) -> Assertion:
    found = shown.noted(EXPECTED, "before", "called = []")
    found.notes[shown.breach.event, "called"] = ["called.append(True)"]
    found.verdict = [shown.exits_if("not called", "step(closure) never called the closure")]
    return found


GRAD_DISABLED = Kind(
    "grad-disabled",
    lambda shown: (
        f"step(closure) called the closure with gradients disabled: wrap the call in torch.enable_grad() {shown.where}"
    ),
    _enabled,
)
NOT_CALLED = Kind(
    "not-called", lambda shown: f"step(closure) never called the closure {shown.where}", _called
)
OTHER_LOSS = Kind("other-loss", _other_loss, _returns_loss, aside=True)

INVARIANT = Invariant(
    id="closure-is-honoured",
    statement="step(closure) runs it with grad enabled and returns its loss",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/optim.html#taking-an-optimization-step",
    judge=judge,
    needs_values=False,
    freezing=False,
)
