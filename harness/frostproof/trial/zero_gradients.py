"""What an optimizer does where a gradient is zeros: a fact about it, and not a violation."""

from __future__ import annotations

from frostproof.spec.program import Step
from frostproof.training.observation import Bits, EventRecord, Trial


def note_zero_gradients(trial: Trial, record: EventRecord) -> None:
    """Note whether A's optimizer moves a frozen parameter whose gradient is zeros.

    `zero_grad(set_to_none=False)` leaves such gradients.
    """
    observed = record.observations["a"]
    gradients = observed.grads_at_step
    if trial.moved_on_zero_grad or gradients is None or not observed.optimizer_called:
        return
    for i in record.mask.at_step if isinstance(record.event, Step) else ():
        if gradients[i] and _is_zero(gradients[i], trial.case.dtype):
            moved = observed.weights[i] != observed.weights_before[i]
            trial.moved_on_zero_grad = moved or bool(trial.moved_on_zero_grad)


def _is_zero(gradient: Bits | None, dtype: str) -> bool:
    from frostproof.training.bits import values

    return not any(gradient or b"") or not any(values(gradient or b"", dtype))
