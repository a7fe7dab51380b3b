"""A parameter that is frozen after it has trained stays, and so does its optimizer state."""

from frostproof.invariants.assertions import LEFT_TRAINABLE, left_trainable, moved, unmoved
from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.invariants.movement import moves
from frostproof.spec.case import Role
from frostproof.spec.program import BackwardUnderNoGrad, Freeze, Step, ZeroGrad
from frostproof.training.observation import EventRecord, Trial

MOVED = moved("a parameter that was frozen midway, and has no gradient, moved")
LEFT = moved(
    "your way left the gradient of a parameter that it froze (set it to None), which moved",
    by_way=True,
)
FREE = moved(LEFT_TRAINABLE, by_way=True)
STATE = Kind(
    "state",
    "the optimizer's state of {name}, frozen midway, changed",
    "known != after",
    where="{state_change} {where}",
    notes={"before": "known = {state}"},
    after=["after = {state}"],
    shows=": {{known}} -> {{after}}",
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    if not isinstance(record.event, Step | Freeze | ZeroGrad | BackwardUnderNoGrad):
        return  # an optimizer may legitimately swap weights when its mode changes
    case = trial.case
    frozen = [i for i in case.frozen_midway if i in record.mask.at_step and _warm(trial, record, i)]
    for role, observed in record.observations.items():
        # Its train(), with which a step may begin, legitimately swaps state, too.
        switched = trial.subject.modes and observed.weights_at_step is not None
        keeps_state = trial.subject.per_parameter and not (observed.state_lost or switched)
        for i in frozen:
            owned_gradient = i in observed.owned and observed.gradient_at_step(i) is not None
            if owned_gradient and not _left_by_way(record, role, i):
                continue  # a gradient that was left or zeroed trains it, as torch defines it
            kind = LEFT if owned_gradient else MOVED
            kind = FREE if left_trainable(role, observed, i) else kind
            for judgement in unmoved(kind, trial, record, role, (i,)):
                if judgement is not HELD or observed.optimizer_called:
                    yield judgement
            # State may alias a weight that the forward pass rewrites.
            had = i in observed.before.stateful and not case.parameters[i].renormed
            kept = not had or observed.before.states.get(i) in (None, observed.states.get(i))
            if observed.optimizer_called and keeps_state and not kept:
                yield STATE.breach(record, role, i)


def _left_by_way(record: EventRecord, role: Role, i: int) -> bool:
    """Whether the user's own way left a gradient that A has not."""
    grads = record.observations["a"].grads_at_step
    return role == "way" and grads is not None and grads[i] is None


def _warm(trial: Trial, record: EventRecord, i: int) -> bool:
    """Whether parameter `i` was trained before this event."""
    return any(
        (moves(each, "a", i) if grads is None else grads[i] is not None)
        and i not in each.mask.at_step
        for each in trial.records[: record.number]
        for grads in [each.observations["a"].grads_at_step]  # which a fused backward shows nobody
    )


INVARIANT = Invariant(
    "freeze-midway-holds",
    "a parameter that is frozen after it has trained, and has no gradient, keeps its bits and its "
    "optimizer state from then on",
    judge,
    "https://discuss.pytorch.org/t/153740",
    mend="follow momentum, averages and slow copies only where the grad is not None",
)
