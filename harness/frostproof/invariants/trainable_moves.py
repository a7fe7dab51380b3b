"""Something trains: without that, a trial of frozen weights proves nothing."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.observation import Bits, Moment, Trial

NOTICEABLE = 0.1
"""A gradient of this size moves a weight by more than its rounding at the learning rates that are drawn, even where an
update goes with a power of the gradient."""


def judge(trial: Trial, moment: Moment) -> Judgement:
    case = trial.case
    if not moment.last or not case.trainable:
        return NOT_JUDGED
    start = trial.take_trainable(trial.starts["a"].weights)
    # Any moment, and not the end alone: steps of one size may lead back to the start.
    if any(trial.take_trainable(each.seen["a"].weights) != start for each in reversed(trial.moments)):
        return HELD
    if case.dtype == "bfloat16":
        return NOT_JUDGED  # a small update may legitimately round away
    for earlier in trial.moments:
        seen = earlier.seen["a"]
        if seen.closure is not None and seen.closure.calls > 1:
            return NOT_JUDGED  # a line search may reject every step, as it does where dropout makes the loss jump
        for i in case.trainable:
            if seen.gradients and seen.had_gradient and seen.had_gradient[i] and _noticeable(seen.gradients[i], case.dtype):
                name, events = case.parameters[i].name, len(trial.moments)
                return f"no trainable parameter moved in {events} events, though {name} had a gradient at event {earlier.number}"
    return NOT_JUDGED


def _noticeable(gradient: Bits | None, dtype: str) -> bool:
    from frostproof.bits import values

    return gradient is not None and max(map(abs, values(gradient, dtype)), default=0.0) >= NOTICEABLE


INVARIANT = Invariant(
    id="trainable-moves",
    statement="some trainable element with a non-zero gradient moves",
    severity="wrong",
    source="a trial in which nothing trains proves nothing",
    judge=judge,
)
