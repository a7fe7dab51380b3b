"""step(closure) calls the closure with gradients enabled, and returns its loss."""

from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.training.observation import ClosureUse, EventRecord, Trial

GRAD_DISABLED = Kind(
    "grad-disabled",
    "step(closure) called the closure with gradients disabled",
    "not torch.is_grad_enabled()",
    "called",
    where=" {where}: wrap the call in torch.enable_grad()",
)
NOT_CALLED = Kind(
    "not-called",
    "step(closure) never called the closure",
    "not called",
    notes={"before": "called = []", "called": "called.append(True)"},
)


def _other_loss(test: str, loss: str, shows: str) -> Kind:
    return Kind(
        "other-loss",
        "step(closure) returned {found:.80}, which is none of the losses that the closure returned",
        test,
        notes={"before": "losses = []", "returning": f"losses.append({loss})"},
        shows=shows,
        aside=True,
    )


NO_TENSOR = _other_loss("not isinstance(returned, torch.Tensor)", "{loss}", "")
OTHER_LOSS = _other_loss(
    "(returned.item() if isinstance(returned, torch.Tensor) else returned) not in losses",
    "{loss}.item()",
    ": {{losses}}",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        use = observed.closure
        if use is None:
            continue
        if not use.grad_enabled and not trial.subject.closure_gives_loss_alone:
            yield GRAD_DISABLED.breach(record, role)
        if use.calls == 0:
            yield NOT_CALLED.breach(record, role)
        if not _returned_loss(use, trial.case.dtype):
            returned = "a tensor" if isinstance(use.returned, bytes) else repr(use.returned)
            kind = OTHER_LOSS if any(use.losses) else NO_TENSOR
            yield kind.breach(record, role, found=returned)
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
    "step(closure) calls the closure with gradients enabled, and returns its loss",
    judge,
    "https://docs.pytorch.org/docs/stable/optim.html#taking-an-optimization-step",
    freezing=False,
    violation_class="closure",
    mend="call the closure under torch.enable_grad(), and return its loss",
)
