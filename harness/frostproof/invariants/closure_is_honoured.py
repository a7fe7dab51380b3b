"""step(closure) calls the closure with gradients enabled, and returns its loss."""

from frostproof.invariants.assertions import check
from frostproof.invariants.breach import HELD, Assertion, Judgements, Kind, ShownBreach
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import ClosureUse, EventRecord, Trial

EXPECTED = "step(closure) runs the closure with gradients enabled, and returns its loss"


def _returns_loss(shown: ShownBreach) -> Assertion:
    loss = "total" if getattr(shown.record.event, "micro_batches", 1) > 1 else "loss"
    if shown.device == "meta":  # there are no values to compare
        returning = f"losses.append({loss})"
        test = "not isinstance(returned, torch.Tensor)"
        text = "step(closure) returned {{returned!r:.200}}, and the closure a loss"
    else:
        returning = f"losses.append({loss}.item())"
        test = "(returned.item() if isinstance(returned, torch.Tensor) else returned) not in losses"
        text = "step(closure) returned {{returned!r:.200}}, and the closure {{losses}}"
    return check(test, text, notes={"before": "losses = []", "returning": returning})(shown)


GRAD_DISABLED = Kind(
    "grad-disabled",
    "step(closure) called the closure with gradients disabled: "
    "wrap the call in torch.enable_grad() {where}",
    EXPECTED,
    check("not torch.is_grad_enabled()", "called the closure with gradients disabled", at="called"),
)
NOT_CALLED = Kind(
    "not-called",
    "step(closure) never called the closure {where}",
    EXPECTED,
    check(
        "not called",
        "step(closure) never called the closure",
        notes={"before": "called = []", "called": "called.append(True)"},
    ),
)
OTHER_LOSS = Kind(
    "other-loss",
    "step(closure) returned {found:.80}, which is none of the losses that the closure returned "
    "{where}",
    EXPECTED,
    _returns_loss,
    aside=True,
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        use = observed.closure
        if use is None:
            continue
        if not use.grad_enabled:
            yield GRAD_DISABLED.breach(record, role)
        if use.calls == 0:
            yield NOT_CALLED.breach(record, role)
        if not _returned_loss(use, trial.case.dtype):
            returned = "a tensor" if isinstance(use.returned, bytes) else repr(use.returned)
            yield OTHER_LOSS.breach(record, role, found=returned)
        yield HELD


def _returned_loss(use: ClosureUse, dtype: str) -> bool:
    """Whether step() returned one of the closure's losses, as a tensor or as a number."""
    if use.returned in use.losses:
        return True
    if not isinstance(use.returned, float):
        return False
    from frostproof.training.bits import values

    return any(use.returned in values(loss, dtype) for loss in use.losses)


INVARIANT = Invariant(
    "closure-is-honoured",
    "step(closure) runs it with grad enabled and returns its loss",
    judge,
    "https://docs.pytorch.org/docs/stable/optim.html#taking-an-optimization-step",
    needs_values=False,
    freezing=False,
)
