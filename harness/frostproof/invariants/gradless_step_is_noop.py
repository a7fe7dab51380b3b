"""No gradient, no step: without this, requires_grad=False would not freeze anything."""

from frostproof.invariants.assertions import check, stays
from frostproof.invariants.breach import Judgements, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.movement import unmoved
from frostproof.training.observation import EventRecord, Trial

NO_INF_CHECKS = "No inf checks were recorded"
"""What GradScaler says where an optimizer has no gradient at all."""

EXPECTED = "a parameter whose grad is None is left alone by step()"
MOVED = Kind(
    "moved",
    "step() moved a parameter whose grad is None {where}: {change}",
    EXPECTED,
    stays("step() moved, though its grad is None,"),
)
ALLOCATED = Kind(
    "allocated",
    "step() allocated a gradient for {name}, whose grad was None, {where}",
    EXPECTED,
    check("{tensor}.grad is not None", "step() allocated a gradient for {name}"),
)
SCALER = Kind(
    "scaler",
    "GradScaler raised {found!r} {at}, and not {expected!r}",
    EXPECTED,
    check(
        f'"{NO_INF_CHECKS}" not in str(error)', "GradScaler raised {{error!r:.200}}", at="refused"
    ),
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        grads, error = observed.grads_at_step, observed.scaler_error
        if grads is None or not observed.optimizer_called or None not in grads:
            continue
        for i in observed.owned:
            if grads[i] is None:
                yield from unmoved(MOVED, record, role, (i,))
                if observed.has_gradient[i]:
                    yield ALLOCATED.breach(record, role, i)
        if error is not None and NO_INF_CHECKS not in error:
            yield SCALER.breach(record, role, None, NO_INF_CHECKS, error)


INVARIANT = Invariant(
    "gradless-step-is-noop",
    "some or all grads None: step() does not raise, moves nothing without a grad, allocates no grad",
    judge,
    "https://github.com/pytorch/pytorch/issues/116471",
    needs_values=False,
)
