"""Freezing saves the optimizer's memory: no state for a parameter that never had a gradient."""

from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.training.observation import EventRecord, Trial

HAS_STATE = Kind(
    "has-state",
    "the optimizer holds state for {name}, which never had a gradient",
    "{states}.get({tensor}) not in (None, {{}})",
    where=", {at}",
    shows=": {{{states}[{tensor}]!r:.100}}",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    observed = record.observations["a"]
    for i in record.mask.frozen_so_far if observed.owned else ():
        if i in observed.stateful:
            yield HAS_STATE.breach(record, "a", i)
        yield HELD


INVARIANT = Invariant(
    "no-state-for-frozen",
    "an optimizer keeps no state for a parameter that never had a gradient",
    judge,
    "https://docs.pytorch.org/docs/stable/optim.html",
    "cost",
    violation_class="cost",
    mend="create the state of a parameter at its first step with a gradient",
)
