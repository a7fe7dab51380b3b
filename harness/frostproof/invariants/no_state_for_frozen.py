"""Freezing saves the optimizer's memory: no state for a parameter that never had a gradient."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    seen = moment.seen["a"]
    if not moment.mask.frozen_so_far or not seen.owned:
        return NOT_JUDGED
    for i in moment.mask.frozen_so_far:
        if i in seen.stateful:
            return Breach(HAS_STATE, ("a",), moment.number, (i,))
    return HELD


def _stateless(shown: Shown) -> Assertion:
    state = f"optimizer.state.get({shown.tensor})"
    text = f"the optimizer holds {{list({state})}} for {shown.name}, which never had a gradient"
    expected = f"{shown.name} never had a gradient, so the optimizer needs no state for it"
    return Assertion(expected, verdict=[shown.exits_if(state, text)])


HAS_STATE = Kind(
    "has-state",
    lambda shown: (
        f"the optimizer holds state for {shown.name}, which never had a gradient, {shown.at}"
    ),
    _stateless,
)

INVARIANT = Invariant(
    id="no-state-for-frozen",
    statement="no non-empty state for a parameter that never had a gradient",
    severity="cost",
    source="https://docs.pytorch.org/docs/stable/optim.html",
    judge=judge,
    needs_values=False,
)
