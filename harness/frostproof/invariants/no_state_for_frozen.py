"""Freezing saves the optimizer's memory: no state for a parameter that never had a gradient."""

from frostproof.invariants.assertions import check
from frostproof.invariants.breach import HELD, Judgements, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import EventRecord, Trial

HAS_STATE = Kind(
    "has-state",
    "the optimizer holds state for {name}, which never had a gradient, {at}",
    "{name} never had a gradient, so the optimizer needs no state for it",
    check(
        "optimizer.state.get({tensor})",
        "the optimizer holds {{list(optimizer.state.get({tensor}))}} for {name}, "
        "which never had a gradient",
    ),
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    observed = record.observations["a"]
    for i in record.mask.never if observed.owned else ():
        if i in observed.stateful:
            yield HAS_STATE.breach(record, "a", i)
        yield HELD


INVARIANT = Invariant(
    "no-state-for-frozen",
    "no non-empty state for a parameter that never had a gradient",
    judge,
    "https://docs.pytorch.org/docs/stable/optim.html",
    "cost",
    needs_values=False,
)
