"""Whether what ought to train moves, and when that can be expected."""

from frostproof.spec.case import Positions
from frostproof.spec.program import Step
from frostproof.training.observation import Bits, Moment, Trial

NOTICEABLE = 0.1
"""A gradient of this size moves a weight by more than its rounding at the learning rates that are drawn, even where an
update goes with a power of the gradient. Two elements must have it: of a single one, an update that is made orthogonal to
the weights leaves nothing."""


def due(trial: Trial, moment: Moment, role: str, i: int) -> bool:
    """Whether a step of this role ought to move parameter `i`: it was handed a gradient that is large enough.

    Never in bfloat16, where a small update may round away, nor where a line search may reject every step, nor under a
    GradScaler, which hands scaled gradients or skips the step, nor where chance may decide what moves.
    """
    seen, event, dtype = moment.seen[role], moment.event, trial.case.dtype
    if (
        not isinstance(event, Step)
        or event.scaled
        or dtype == "bfloat16"
        or not seen.stepped
        or seen.handed is None
    ):
        return False
    if seen.draws or seen.evaluations > (2 if trial.subject.closure == "after-backward" else 1):
        return False
    return i in seen.owned and _noticeable(seen.handed[i], dtype)


def stuck(trial: Trial, role: str, since: int, positions: Positions) -> tuple[int, int] | None:
    """The first of `positions` that never moved from event `since` on, though it ought to have, with the number of that event.

    One with a history may legitimately skip a step, as in Rprop where its gradient has changed its sign: it is given two. An
    optimizer that is known to begin slowly is given as many as it takes.
    """
    for i in positions:
        untrained = i in (
            trial.case.mask_timeline[since - 1].frozen_so_far
            if since
            else trial.case.initially_frozen
        )
        patience = max(1 if untrained else 2, trial.subject.patience)
        missed = []
        for moment in trial.moments[since:]:
            if moves(trial, moment, role, i):
                break
            plain = isinstance(moment.event, Step) and not moment.event.closure
            if plain and due(trial, moment, role, i):
                missed.append(moment.number)
        else:
            if len(missed) >= patience and not poisoned(trial, role, i):
                return i, missed[-1]
    return None


def moved(trial: Trial, role: str, since: int, positions: Positions) -> bool:
    """Whether any of `positions` moved from event `since` on."""
    return any(moves(trial, moment, role, i) for moment in trial.moments[since:] for i in positions)


def moves(trial: Trial, moment: Moment, role: str, i: int) -> bool:
    """Whether parameter `i` moved at this event."""
    return moment.seen[role].weights[i] != trial.weights_before(moment, role)[i]


def poisoned(trial: Trial, role: str, i: int) -> bool:
    """Whether this role was ever handed a gradient for parameter `i` that is not finite, as what is left after an overflow."""
    from frostproof.training.bits import finite

    handed = [
        seen.handed[i]
        for seen in (moment.seen[role] for moment in trial.moments)
        if seen.handed is not None
    ]
    return not all(
        finite(gradient, trial.case.dtype) for gradient in handed if gradient is not None
    )


def _noticeable(gradient: Bits | None, dtype: str) -> bool:
    from frostproof.training.bits import values

    return gradient is not None and sum(abs(x) >= NOTICEABLE for x in values(gradient, dtype)) > 1
