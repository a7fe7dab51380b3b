"""No gradient, no step: the one thing in an optimizer that makes requires_grad=False freeze anything."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change
from frostproof.observation import Moment, Trial

NO_INF_CHECKS = "No inf checks were recorded"
"""What a GradScaler says of an optimizer without a single gradient."""


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        if seen.handed is None or not seen.stepped or None not in seen.handed:
            continue
        before = trial.weights_before(moment, role)
        for i in seen.owned:
            if seen.handed[i] is not None:
                continue
            if seen.weights[i] != before[i]:
                what = change(trial, i, before[i], seen.weights[i])
                return f"step() moved a parameter whose grad is None {at(moment)}, approach {trial.names[role]}: {what}"
            if seen.has_gradient[i]:
                name = trial.case.parameters[i].name
                return f"step() allocated a gradient for {name}, whose grad was None, {at(moment)}, approach {trial.names[role]}"
            judgement = HELD
        if seen.scaler_error is not None and NO_INF_CHECKS not in seen.scaler_error:
            return f"GradScaler raised {seen.scaler_error!r} {at(moment)}, and not {NO_INF_CHECKS!r}"
    return judgement


INVARIANT = Invariant(
    id="gradless-step-is-noop",
    statement="some or all grads None: step() does not raise, moves nothing without a grad, allocates no grad",
    severity="wrong",
    source="https://github.com/pytorch/pytorch/issues/116471",
    judge=judge,
    needs_values=False,
)
