"""zero_grad clears every parameter that the optimizer owns, whether it requires grad or not."""

from frostproof.invariants.assertions import check
from frostproof.invariants.breach import HELD, Judgements, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.spec.program import Step, ZeroGrad
from frostproof.training.observation import EventRecord, Trial

EXPECTED = "zero_grad clears what the optimizer owns, frozen or not, and allocates nothing"


def _left(condition: str) -> Kind:
    text = "{expected} left a gradient on {name}"
    return Kind("left", text + " {where}", EXPECTED, check(condition, text, "cleared"))


LEFT = _left("{tensor}.grad is not None")
NOT_ZERO = _left("{tensor}.grad is not None and {tensor}.grad.count_nonzero()")
ALLOCATED = Kind(
    "allocated",
    "{expected} allocated a gradient, where there was none, for {name} {where}",
    EXPECTED,
    check("{tensor}.grad is not None", "{expected} allocated a gradient for {name}", "cleared"),
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
            gradient = cleared[i]
            had = isinstance(event, ZeroGrad) or observed.before.has_gradient[i]
            if gradient is not None and (not had or to_none or any(gradient)):
                kind = ALLOCATED if not had else LEFT if to_none else NOT_ZERO
                yield kind.breach(record, role, i, expected=call)
            yield HELD


INVARIANT = Invariant(
    "zero-grad-clears",
    "zero_grad leaves None (or zeros, as asked) on every owned parameter, frozen ones included, "
    "and allocates nothing",
    judge,
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
    needs_values=False,
    freezing=False,
)
