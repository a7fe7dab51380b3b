"""Whether parameters move: those that must not, and those that should train."""

from frostproof.invariants.invariant import HELD, Judgements, Kind
from frostproof.spec.case import Positions, Role
from frostproof.spec.program import Clip, LoadWeights, Step
from frostproof.training.observation import Bits, EventRecord, Trial

NOTICEABLE = 0.1
"""A gradient of this size moves a weight by more than its rounding at the learning rates that are
drawn, even where an update is proportional to a power of the gradient. Two elements must have it:
an update that is made orthogonal to the weights cancels a single one."""


def rewrites(trial: Trial, record: EventRecord, i: int) -> bool:
    """Whether parameter `i` gets other weights before the step by no doing of the optimizer."""
    return isinstance(record.event, LoadWeights) or trial.case.parameters[i].renormed


def moves(record: EventRecord, role: Role, i: int) -> bool:
    """Whether parameter `i` moved at this event."""
    observed = record.observations[role]
    return observed.weights[i] != observed.weights_before[i]


def watched_from(trial: Trial, since: int) -> int:
    """The number of the event from which a weight can be watched that should move since an event.

    It is a later one if weights were loaded since, which moves them too.
    """
    loads = (each.number + 1 for each in trial.records if isinstance(each.event, LoadWeights))
    return max((since, *loads))


def due(trial: Trial, record: EventRecord, role: Role, i: int) -> bool:
    """Whether this step of the role should move parameter `i`: its gradient is large enough.

    Never in bfloat16, where a small update may round to nothing. Never where a line search may
    reject every step, where a GradScaler scales the gradients or skips the step, or where chance
    may decide what moves. Never where gradients are clipped by value, which makes elements equal:
    an optimizer that subtracts their mean is left with none.
    """
    observed, event, dtype = record.observations[role], record.event, trial.case.dtype
    if not isinstance(event, Step) or event.scaled or dtype == "bfloat16":
        return False
    if any(isinstance(each, Clip) and each.by == "value" for each in event.after_backward):
        return False
    if trial.subject.backward == "in-step":  # a line search
        return False
    evaluations = 2 if trial.subject.closure == "after-backward" else 1
    if observed.drew_random_numbers or observed.evaluations > evaluations:
        return False
    if not observed.optimizer_called or i not in observed.owned:
        return False
    return _noticeable(observed.gradient_at_step(i), dtype)


def trains(
    kind: Kind, trial: Trial, record: EventRecord, role: Role, since: int, positions: Positions
) -> Judgements:
    """A breach at the first of `positions` that did not move since an event, though it should have.

    `record` is the last event. A parameter that has trained before may skip one step (Rprop does
    after a sign change), so two missed steps are required. An optimizer that is known to begin
    slowly may miss as many as it takes.
    """
    for i in positions:
        untrained = i in (
            trial.case.mask_timeline[since - 1].frozen_so_far
            if since
            else trial.case.initially_frozen
        )
        patience = max(1 if untrained else 2, trial.subject.patience)
        missed, watched = [], watched_from(trial, since)
        for each in trial.records[since:]:
            if moves(each, role, i):
                yield HELD
                break
            plain = isinstance(each.event, Step) and not each.event.closure
            if plain and each.number >= watched and due(trial, each, role, i):
                missed.append(each.number)
        else:
            if len(missed) >= patience and not poisoned(trial, role, i):
                yield kind.breach(record, role, i, found=missed[-1], since=since)


def poisoned(trial: Trial, role: Role, i: int) -> bool:
    """Whether a gradient of parameter `i` was ever not finite, as after an overflow."""
    from frostproof.training.bits import finite

    steps = (record.observations[role].grads_at_step for record in trial.records)
    grads = (each[i] for each in steps if each is not None)
    return not all(finite(grad, trial.case.dtype) for grad in grads if grad is not None)


def _noticeable(gradient: Bits | None, dtype: str) -> bool:
    from frostproof.training.bits import values

    return gradient is not None and sum(abs(x) >= NOTICEABLE for x in values(gradient, dtype)) > 1
