"""A frozen module in eval mode keeps its buffers; in train mode batch statistics change."""

from frostproof.invariants.assertions import BUFFERS_UNLIKE
from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.training.observation import EventRecord, Trial

CHANGED = Kind(
    "changed",
    "{buffer}, a buffer of a frozen module in eval mode, changed",
    BUFFERS_UNLIKE.format(left="before", right="after"),
    notes={"before": "before = list(model.buffers())[{expected}].clone()"},
    after=["after = list(model.buffers())[{expected}]"],
    shows=": {{before.tolist()}} -> {{after.tolist()}}",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        # Where the event itself switched the module, it may have run in train mode before.
        since_before = observed.before.frozen_eval_buffers
        for i in (each for each in observed.frozen_eval_buffers if each in since_before):
            if observed.buffers[i] != observed.before.buffers[i]:
                yield CHANGED.breach(record, role, expected=i)
            yield HELD


INVARIANT = Invariant(
    "buffers-hold-in-eval",
    "the buffers of a frozen module in eval mode keep their bits",
    judge,
    "https://github.com/pytorch/pytorch/issues/86590",
    needs_optimizer=False,
    mend="leave the buffers of modules, and their modes, as they are",
)
