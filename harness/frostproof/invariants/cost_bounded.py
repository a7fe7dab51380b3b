"""Freezing by requires_grad spares work, and never adds any."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    a, b = moment.seen["a"].cost, moment.seen["b"].cost
    if a is None or b is None:
        return NOT_JUDGED
    for what, spent, bound in (
        ("FLOPs in backward", a.backward_flops, b.backward_flops),
        ("bytes saved for backward", a.saved_bytes, b.saved_bytes),
    ):
        if spent > bound:
            return f"A spends {spent} {what} {at(moment)}, and B only {bound}"
    return HELD


INVARIANT = Invariant(
    id="cost-bounded",
    statement="backward FLOPs and saved-for-backward bytes of A never exceed B's",
    severity="cost",
    source="https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    judge=judge,
    needs_values=False,
    needs_optimizer=False,
    autograd_only=True,
)
