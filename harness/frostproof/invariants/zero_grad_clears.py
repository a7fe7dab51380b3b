"""zero_grad clears every parameter that the optimizer owns, whether it requires grad or not."""

from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.spec.program import Step, ZeroGrad
from frostproof.training.observation import EventRecord, Trial

LEFT_TEXT = "{expected} left a gradient on {name}"
LEFT = Kind("left", LEFT_TEXT, "{grad} is not None", "cleared")
NOT_ZERO = Kind("left", LEFT_TEXT, "{grad} is not None and {gradient}.count_nonzero()", "cleared")
ALLOCATED = Kind(
    "allocated",
    "{expected} allocated a gradient, where there was none, for {name}",
    "{grad} is not None",
    "cleared",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    event = record.event
    if not isinstance(event, Step | ZeroGrad) or getattr(event, "zeroed_by", "") == "model":
        return
    to_none = event.set_to_none and "set_to_none" not in trial.subject.unable
    call = "zero_grad()" if to_none else "zero_grad(set_to_none=False)"
    for role, observed in record.observations.items():
        cleared = observed.grads_after_zero_grad or ()
        for i in observed.owned_at_zero_grad:
            had = isinstance(event, ZeroGrad) or observed.before.has_gradient[i]
            if cleared[i] is not None and (not had or to_none or any(cleared[i] or ())):
                kind = ALLOCATED if not had else LEFT if to_none else NOT_ZERO
                yield kind.breach(record, role, i, call)
            yield HELD


INVARIANT = Invariant(
    "zero-grad-clears",
    "zero_grad leaves None (or zeros, as asked) on every parameter that the optimizer owns, frozen "
    "ones included, and allocates nothing",
    judge,
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
    freezing=False,
    mend="treat all parameters of all groups alike in zero_grad()",
)
