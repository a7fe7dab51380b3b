"""requires_grad=False costs no gradient: backward leaves `.grad` of a frozen parameter None."""

from frostproof.invariants.assertions import check
from frostproof.invariants.breach import HELD, Judgements, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.training.observation import EventRecord, Trial


def _kind(verb: str, condition: str, notes: dict[str, str]) -> Kind:
    text = f"backward {verb} the gradient of {{name}}, which is frozen"
    return Kind(
        verb,
        text + " by requires_grad=False, {at}",
        "{name} has requires_grad=False, so backward leaves its .grad alone",
        check(condition, text, "gradients", notes=notes),
    )


ALLOCATED = _kind("allocated", "{tensor}.grad is not None", {})
CHANGED = _kind(
    "changed",
    "not torch.equal(before, {tensor}.grad)",
    {"cleared": "before = {tensor}.grad.clone()"},
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    observed = record.observations["a"]
    before, after = observed.grads_after_zero_grad, observed.grads_after_backward
    if before is None or after is None:
        return
    for i in record.mask.backward:
        if after[i] != before[i]:
            kind = ALLOCATED if before[i] is None else CHANGED
            yield kind.breach(record, "a", i, before[i], after[i])
        yield HELD


INVARIANT = Invariant(
    "no-grad-allocated",
    "A: backward allocates no p.grad for any p frozen before it, and changes none that was left",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    needs_values=False,
    needs_optimizer=False,
)
