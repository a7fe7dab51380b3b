"""No gradient, no step: without this, requires_grad=False would not freeze anything."""

from frostproof.invariants.assertions import moved, unmoved
from frostproof.invariants.invariant import Invariant, Judgements, Kind
from frostproof.training.observation import EventRecord, Trial

NO_INF_CHECKS = "No inf checks were recorded"
"""What GradScaler says where an optimizer has no gradient at all."""

MOVED = moved("step() moved a parameter whose grad is None")
ALLOCATED = Kind(
    "allocated",
    "step() allocated a gradient for {name}, whose grad was None",
    "{grad} is not None",
    where=", {where}",
)
SCALER = Kind(
    "scaler",
    "GradScaler raised another error than {expected!r}",
    '"{expected}" not in str(error)',
    "refused",
    where=" {at}: {found!r}",
    shows=": {{error!r:.200}}",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        grads, error = observed.grads_at_step, observed.scaler_error
        if grads is None or not observed.optimizer_called or None not in grads:
            continue
        for i in observed.owned:
            if grads[i] is None:
                yield from unmoved(MOVED, trial, record, role, (i,))
                if observed.has_gradient[i]:
                    yield ALLOCATED.breach(record, role, i)
        if error is not None and NO_INF_CHECKS not in error:
            yield SCALER.breach(record, role, None, NO_INF_CHECKS, error)


INVARIANT = Invariant(
    "gradless-step-is-noop",
    "where the gradients of some or all parameters are None, step() does not raise, moves none of "
    "these parameters, and allocates no gradient",
    judge,
    "https://github.com/pytorch/pytorch/issues/116471",
    mend="use only parameters whose grad is not None, in lists and averages too, and do "
    "nothing where there are none",
)
