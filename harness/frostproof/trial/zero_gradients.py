"""Facts about an optimizer that are no fault of it, seen on the way."""

from __future__ import annotations

from frostproof.spec.program import Step
from frostproof.training.observation import Bits, Moment, Trial


def note(trial: Trial, moment: Moment) -> None:
    """What A's optimizer does where a frozen parameter has zeros for a gradient, as `zero_grad(set_to_none=False)` leaves them."""
    seen = moment.seen["a"]
    if (
        trial.moved_on_zero_grad
        or not isinstance(moment.event, Step)
        or seen.handed is None
        or not seen.stepped
    ):
        return
    for i in moment.mask.at_step:
        gradient = seen.handed[i]
        if gradient and _zero(gradient, trial.case.dtype):
            moved = seen.weights[i] != trial.weights_before(moment, "a")[i]
            trial.moved_on_zero_grad = moved or bool(trial.moved_on_zero_grad)


def _zero(gradient: Bits, dtype: str) -> bool:
    if not any(gradient):
        return True
    from frostproof.training.bits import values

    return not any(values(gradient, dtype))
