"""Freezing saves the optimizer's memory: no state for a parameter that never had a gradient."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    seen = moment.seen["a"]
    if not moment.frozen.never or not seen.owned:
        return NOT_JUDGED
    for i in moment.frozen.never:
        if i in seen.stateful:
            return f"the optimizer holds state for {trial.case.parameters[i].name}, which never had a gradient, {at(moment)}"
    return HELD


INVARIANT = Invariant(
    id="no-state-for-frozen",
    statement="no non-empty state for a parameter that never had a gradient",
    severity="cost",
    source="https://docs.pytorch.org/docs/stable/optim.html",
    judge=judge,
    needs_values=False,
)
