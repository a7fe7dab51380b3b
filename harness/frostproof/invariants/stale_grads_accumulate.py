"""What B leaves behind is exactly known: the sum of the steps' gradients, in order."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Bits, Moment, Observation, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    dense = [i for i in trial.case.frozen if not trial.case.parameters[i].sparse]
    if not isinstance(moment.event, Step) or "cleared" not in moment.seen or not dense:
        return NOT_JUDGED
    earlier = [m.seen["b"] for m in trial.moments[: moment.index] if isinstance(m.event, Step)]
    if any(len(seen.losses) > 1 for seen in earlier):
        return NOT_JUDGED  # a closure that ran more than once added gradients that were not looked at one by one
    fresh = moment.seen["cleared"].gradients
    stale = moment.seen["b"].gradients
    assert fresh is not None and stale is not None
    due = fresh if not earlier else _added(trial, dense, earlier[-1], fresh)
    if any(stale[i] != due[i] for i in dense):
        i = first_difference(dense, due, stale)
        return f"the gradient that B leaves is not the sum of the steps' {at(moment)} (due -> found): {change(trial, i, due[i], stale[i])}"
    return HELD


def _added(trial: Trial, positions: list[int], before: Observation, fresh: tuple[Bits | None, ...]) -> tuple[Bits | None, ...]:
    """The gradients before plus the fresh ones, added in the parameters' dtype as autograd does."""
    from frostproof.bits import added

    assert before.gradients is not None
    return tuple(
        added(old, new, trial.case.dtype) if i in positions and (old := before.gradients[i]) is not None and (new := fresh[i]) is not None else None
        for i in range(len(fresh))
    )


INVARIANT = Invariant(
    id="stale-grads-accumulate",
    statement="B: p.grad of frozen p is the in-order sum of the steps' gradients, bitwise, until cleared",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    needs_optimizer=False,
)
