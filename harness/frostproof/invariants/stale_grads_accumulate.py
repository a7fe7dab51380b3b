"""What B leaves behind is exactly known: the sum of the steps' gradients, in order."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Bits, Grads, Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    event = moment.event
    if "cleared" not in moment.seen or not isinstance(event, Step):
        return NOT_JUDGED
    case, during = trial.case, moment.frozen
    dense = [i for i in during.forward if i in during.backward and not case.parameters[i].sparse]
    b, cleared = moment.seen["b"], moment.seen["cleared"]
    if not dense or b.cleared is None or b.gradients is None or ("b", "cleared") in trial.parted:
        return NOT_JUDGED
    if event.zeroed_by == "optimizer":
        left = left_before(trial, moment)
        for i in dense:
            if left is not None and left[i] != b.cleared[i]:
                return f"the gradient that B left was touched before backward {at(moment)}: {change(trial, i, left[i], b.cleared[i])}"
    due = b.cleared
    for fresh in cleared.passes:
        due = _added(trial, dense, due, fresh)
    if any(b.gradients[i] != due[i] for i in dense):
        i = first_difference(dense, due, b.gradients)
        what = change(trial, i, due[i], b.gradients[i])
        return f"the gradient that B leaves is not the sum of the steps' {at(moment)} (due -> found): {what}"
    return HELD


def left_before(trial: Trial, moment: Moment) -> Grads | None:
    """The gradients of B as its last step was handed them, where nothing else can have changed them since."""
    if moment.number == 0 or not isinstance(trial.case.program[moment.number - 1], Step):
        return None
    seen = trial.moments[moment.number - 1].seen["b"]
    return None if seen.evaluations > 1 else seen.handed


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
