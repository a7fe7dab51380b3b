"""zero_grad clears every parameter that the optimizer owns, whether it requires grad or not."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial
from frostproof.program import BackwardUnderNoGrad, ZeroGrad


def judge(trial: Trial, moment: Moment) -> Judgement:
    event = moment.event
    if isinstance(event, BackwardUnderNoGrad):
        return NOT_JUDGED
    judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        start = trial.starts[role]
        if seen.cleared is None or not start.has_optimizer:
            continue
        for i in start.owned:
            had = isinstance(event, ZeroGrad) or (moment.before is not None and moment.before[role].has_gradient[i])
            gradient, name = seen.cleared[i], trial.case.parameters[i].name
            call = f"zero_grad(set_to_none={event.set_to_none})"
            if gradient is not None and not had:
                return f"{call} allocated a gradient for {name}, which had none, {at(moment)}, approach {trial.names[role]}"
            if gradient is not None and (event.set_to_none or any(gradient)):
                return f"{call} left a gradient on {name} {at(moment)}, approach {trial.names[role]}"
            judgement = HELD
    return judgement


INVARIANT = Invariant(
    id="zero-grad-clears",
    statement="zero_grad leaves None (or zeros, as asked) on every owned parameter, frozen ones included, and allocates nothing",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
    judge=judge,
    needs_values=False,
    crashes=("zero_grad",),
)
