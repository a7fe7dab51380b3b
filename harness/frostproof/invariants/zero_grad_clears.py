"""zero_grad clears every parameter that the optimizer owns, whether it requires grad or not."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial
from frostproof.program import Step, ZeroGrad


def judge(trial: Trial, moment: Moment) -> Judgement:
    event = moment.event
    if not isinstance(event, ZeroGrad) and not (isinstance(event, Step) and event.zeroed_by == "optimizer"):
        return NOT_JUDGED
    judgement = NOT_JUDGED
    for role, seen in moment.seen.items():
        if seen.cleared is None or not seen.zeroed:
            continue
        judgement = HELD
        for i in seen.zeroed:
            gradient = seen.cleared[i]
            if gradient is None:
                continue
            had = isinstance(event, ZeroGrad) or (moment.before is not None and moment.before[role].has_gradient[i])
            to_none = event.set_to_none and "set_to_none" not in trial.subject.unable
            if not had or to_none or any(gradient):
                what = "left a gradient on" if had else "allocated a gradient, where there was none, for"
                call, name = f"zero_grad(set_to_none={event.set_to_none})", trial.case.parameters[i].name
                return f"{call} {what} {name} {at(moment)}, approach {trial.names[role]}"
    return judgement


INVARIANT = Invariant(
    id="zero-grad-clears",
    statement="zero_grad leaves None (or zeros, as asked) on every owned parameter, frozen ones included, and allocates nothing",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
    judge=judge,
    needs_values=False,
)
