"""Freezing everything stops training loudly: there is nothing to differentiate, and torch says so."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change
from frostproof.observation import Moment, Trial
from frostproof.program import BackwardUnderNoGrad, Step

TEXT = "element 0 of tensors does not require grad and does not have a grad_fn"


def judge(trial: Trial, moment: Moment) -> Judgement:
    if isinstance(moment.event, BackwardUnderNoGrad):
        roles, why = list(moment.seen), "under no_grad"
    elif isinstance(moment.event, Step) and not _reaches_something(trial, moment):
        roles, why = ["a"], "with every leaf frozen"
    else:
        return NOT_JUDGED
    for role in roles:
        seen, before = moment.seen[role], trial.weights_before(moment, role)
        if seen.backward_error is None:
            return f"backward of a forward pass {why} did not raise {at(moment)}, approach {trial.names[role]}"
        if TEXT not in seen.backward_error:
            return f"backward of a forward pass {why} raised {seen.backward_error!r} {at(moment)}, and not {TEXT!r}"
        had = seen.cleared if seen.handed is None else seen.handed
        allocated = [i for i, (before_it, has) in enumerate(zip(had or (), seen.has_gradient, strict=False)) if has and before_it is None]
        if allocated:
            return (
                f"a gradient of {trial.case.parameters[allocated[0]].name} was allocated {why} {at(moment)}, approach {trial.names[role]}"
            )
        moved = [i for i, weight in enumerate(seen.weights) if weight != before[i] and not (i in seen.owned and had and had[i] is not None)]
        if moved:  # by a gradient that was there before, it may move
            i = moved[0]
            return f"a weight moved {why} {at(moment)}, approach {trial.names[role]}: {change(trial, i, before[i], seen.weights[i])}"
    return HELD


def _reaches_something(trial: Trial, moment: Moment) -> bool:
    """Whether A's loss has a graph: a trainable leaf, or samples that require grad, upstream of it."""
    return trial.case.architecture.graph(moment.frozen.forward, trial.case.differentiable_input)[-1]


INVARIANT = Invariant(
    id="no-grad-backward-raises",
    statement=(
        "forward under no_grad, or with every leaf frozen: backward raises RuntimeError with torch's text; "
        "no grad is allocated, no weight moves"
    ),
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    needs_values=False,
    needs_optimizer=False,
)
