"""A frozen module in eval mode keeps its buffers; in train mode batch statistics change."""

from frostproof.invariants.assertions import check
from frostproof.invariants.breach import HELD, Judgements, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import EventRecord, Trial

CHANGED = Kind(
    "changed",
    "a buffer of a frozen module in eval mode changed {where}",
    "a frozen module in eval mode keeps its buffers",
    check(
        "not torch.equal(before, after)",
        "a buffer of a frozen module in eval mode changed: "
        "{{before.tolist()}} -> {{after.tolist()}}",
        notes={"before": "before = list(model.buffers())[{expected}].clone()"},
        after=["after = list(model.buffers())[{expected}]"],
    ),
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        for i in observed.frozen_eval_buffers:
            if observed.buffers[i] != observed.before.buffers[i]:
                yield CHANGED.breach(record, role, expected=i)
            yield HELD


INVARIANT = Invariant(
    "buffers-hold-in-eval",
    "buffers of a frozen module in eval mode keep their bits",
    judge,
    "https://github.com/pytorch/pytorch/issues/86590",
    needs_optimizer=False,
)
