"""zero_grad clears every parameter that the optimizer owns, whether it requires grad or not."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.spec.program import Step, ZeroGrad
from frostproof.training.observation import Moment, Trial

EXPECTED = "zero_grad clears what the optimizer owns, frozen or not, and allocates nothing"


def judge(trial: Trial, moment: Moment) -> Judgement:
    event = moment.event
    if not isinstance(event, ZeroGrad) and not (
        isinstance(event, Step) and event.zeroed_by == "optimizer"
    ):
        return NOT_JUDGED
    judgement: Judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        if seen.cleared is None or not seen.zeroed:
            continue
        judgement = HELD
        for i in seen.zeroed:
            gradient = seen.cleared[i]
            if gradient is None:
                continue
            had = isinstance(event, ZeroGrad) or (
                moment.before is not None and moment.before[role].has_gradient[i]
            )
            to_none = event.set_to_none and "set_to_none" not in trial.subject.unable
            if not had or to_none or any(gradient):
                return Breach(
                    LEFT if had else ALLOCATED,
                    (role,),
                    moment.number,
                    (i,),
                    expected=None if to_none else "zeros",
                )
    return judgement


def _call(shown: Shown) -> str:
    return "zero_grad()" if shown.breach.expected is None else "zero_grad(set_to_none=False)"


def _cleared(shown: Shown) -> Assertion:
    grad = f"{shown.tensor}.grad"
    zeros = f" and {grad}.count_nonzero()" if shown.breach.expected else ""
    text = f"{_call(shown)} left a gradient on {shown.name}"
    return shown.noted(EXPECTED, "cleared", shown.exits_if(f"{grad} is not None{zeros}", text))


def _not_allocated(shown: Shown) -> Assertion:
    text = f"{_call(shown)} allocated a gradient for {shown.name}"
    return shown.noted(
        EXPECTED, "cleared", shown.exits_if(f"{shown.tensor}.grad is not None", text)
    )


LEFT = Kind(
    "left", lambda shown: f"{_call(shown)} left a gradient on {shown.name} {shown.where}", _cleared
)
ALLOCATED = Kind(
    "allocated",
    lambda shown: (
        f"{_call(shown)} allocated a gradient, where there was none, for {shown.name} {shown.where}"
    ),
    _not_allocated,
)

INVARIANT = Invariant(
    id="zero-grad-clears",
    statement="zero_grad leaves None (or zeros, as asked) on every owned parameter, frozen ones included, and allocates nothing",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
    judge=judge,
    needs_values=False,
    freezing=False,
)
