"""No gradient, no step: the one thing in an optimizer that makes requires_grad=False freeze anything."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import Moment, Trial

NO_INF_CHECKS = "No inf checks were recorded"
"""What a GradScaler says of an optimizer without a single gradient."""

EXPECTED = "a parameter whose grad is None is left alone by step()"


def judge(trial: Trial, moment: Moment) -> Judgement:
    judgement: Judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        if seen.handed is None or not seen.stepped or None not in seen.handed:
            continue
        before = trial.weights_before(moment, role)
        for i in seen.owned:
            if seen.handed[i] is not None:
                continue
            if seen.weights[i] != before[i]:
                return Breach(MOVED, (role,), moment.number, (i,), before[i], seen.weights[i])
            if seen.has_gradient[i]:
                return Breach(ALLOCATED, (role,), moment.number, (i,))
            judgement = HELD
        if seen.scaler_error is not None and NO_INF_CHECKS not in seen.scaler_error:
            return Breach(
                SCALER, (role,), moment.number, expected=NO_INF_CHECKS, found=seen.scaler_error
            )
    return judgement


def _none_left(shown: Shown) -> Assertion:
    text = f"step() allocated a gradient for {shown.name}"
    return Assertion(EXPECTED, verdict=[shown.exits_if(f"{shown.tensor}.grad is not None", text)])


def _refused(shown: Shown) -> Assertion:
    test = shown.exits_if(
        f'"{NO_INF_CHECKS}" not in str(error)', "GradScaler raised {error!r:.200}"
    )
    return shown.noted(EXPECTED, "refused", test)


MOVED = Kind(
    "moved",
    lambda shown: f"step() moved a parameter whose grad is None {shown.where}: {shown.change}",
    lambda shown: shown.keeps(EXPECTED, "step() moved, though its grad is None,"),
)
ALLOCATED = Kind(
    "allocated",
    lambda shown: (
        f"step() allocated a gradient for {shown.name}, whose grad was None, {shown.where}"
    ),
    _none_left,
)
SCALER = Kind(
    "scaler",
    lambda shown: f"GradScaler raised {shown.breach.found!r} {shown.at}, and not {NO_INF_CHECKS!r}",
    _refused,
)

INVARIANT = Invariant(
    id="gradless-step-is-noop",
    statement="some or all grads None: step() does not raise, moves nothing without a grad, allocates no grad",
    severity="wrong",
    source="https://github.com/pytorch/pytorch/issues/116471",
    judge=judge,
    needs_values=False,
)
