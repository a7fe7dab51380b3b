"""requires_grad=False costs no gradient: backward leaves `.grad` of a frozen parameter None."""

from frostproof.invariants.assertions import UNLIKE
from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.training.observation import EventRecord, Trial

ALLOCATED = Kind(
    "allocated",
    "backward allocated the gradient of {name}, which is frozen by requires_grad=False",
    "{grad} is not None",
    "gradients",
    where=", {at}",
)
CHANGED = Kind(
    "changed",
    "backward changed the gradient of {name}, which is frozen by requires_grad=False",
    UNLIKE.format(left="before", right="{gradient}", integer="{integer}"),
    "gradients",
    where=", {at}",
    notes={"cleared": "before = {gradient}.clone()"},
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    observed = record.observations["a"]
    before, after = observed.grads_after_zero_grad, observed.grads_after_backward
    if before is None or after is None:
        return
    for i in record.mask.in_backward:
        # Not backward, but a freeze after the forward pass sets a gradient to None.
        if after[i] is not None and after[i] != before[i]:
            kind = ALLOCATED if before[i] is None else CHANGED
            yield kind.breach(record, "a", i, before[i], after[i])
        yield HELD


INVARIANT = Invariant(
    "no-grad-allocated",
    "in A, backward allocates no gradient of a parameter that was frozen before it, and changes "
    "none that was left",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    needs_optimizer=False,
    mend="leave the grad of a parameter that does not require grad as it is",
)
