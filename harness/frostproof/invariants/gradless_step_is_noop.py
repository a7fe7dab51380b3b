"""No gradient, no step: the one thing in an optimizer that makes requires_grad=False freeze anything."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        start = trial.starts[role]
        if seen.had_gradient is None or not start.has_optimizer or all(seen.had_gradient):
            continue
        before = trial.weights_before(moment, role)
        for i in start.owned:
            if seen.had_gradient[i]:
                continue
            if seen.weights[i] != before[i]:
                what = change(trial, i, before[i], seen.weights[i])
                return f"step() moved a parameter whose grad is None {at(moment)}, approach {trial.names[role]}: {what}"
            if seen.has_gradient[i]:
                name = trial.case.parameters[i].name
                return f"step() allocated a gradient for {name}, whose grad was None, {at(moment)}, approach {trial.names[role]}"
            judgement = HELD
    return judgement


INVARIANT = Invariant(
    id="gradless-step-is-noop",
    statement="some or all grads None: step() does not raise, moves nothing without a grad, allocates no grad",
    severity="wrong",
    source="https://github.com/pytorch/pytorch/issues/116471",
    judge=judge,
    needs_values=False,
    crashes=("build", "forward", "backward", "step"),
)
