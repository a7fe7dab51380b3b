"""What B leaves behind is exactly known: the sum of the steps' gradients, in order."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Bits, Grads, Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    if "cleared" not in moment.seen or not isinstance(moment.event, Step):
        return NOT_JUDGED
    dense = [i for i in trial.case.frozen if not trial.case.parameters[i].sparse]
    if not dense:
        return NOT_JUDGED
    earlier = [m.seen["b"] for m in trial.moments[: moment.number] if isinstance(m.event, Step)]
    fresh, stale = moment.seen["cleared"].gradients, moment.seen["b"].gradients
    if fresh is None or stale is None or any(len(seen.losses) != 1 for seen in earlier):
        return NOT_JUDGED  # a closure that ran more than once, or never, gives no gradients to look at one by one
    due = fresh if not earlier else _added(trial, dense, earlier[-1].gradients or (), fresh)
    if any(stale[i] != due[i] for i in dense):
        i = first_difference(dense, due, stale)
        return f"the gradient that B leaves is not the sum of the steps' {at(moment)} (due -> found): {change(trial, i, due[i], stale[i])}"
    return HELD


def _added(trial: Trial, positions: list[int], old: Grads, fresh: Grads) -> Grads:
    """The gradients of before plus the fresh ones, added in the parameters' dtype as autograd does."""
    from frostproof.bits import added

    due: list[Bits | None] = [None] * len(fresh)
    for i in positions:
        left, right = old[i], fresh[i]
        due[i] = right if left is None else left if right is None else added(left, right, trial.case.dtype)
    return tuple(due)


INVARIANT = Invariant(
    id="stale-grads-accumulate",
    statement="B: p.grad of frozen p is the in-order sum of the steps' gradients, bitwise, until cleared",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    compares=True,
    needs_optimizer=False,
)
