"""Gradual unfreezing: a group that is added during training trains, and leaves the others alone."""

from frostproof.invariants.agreement import disagreement
from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.progress import moved, stuck
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    seen = moment.seen["b"]
    if seen.added and not seen.stepped:
        before = trial.weights_before(moment, "b")
        if seen.weights != before:
            i = first_difference(range(len(before)), before, seen.weights)
            return f"add_param_group moved a parameter {at(moment)}: {change(trial, i, before[i], seen.weights[i])}"
    earlier = trial.first_added("b")
    if earlier is None:
        return NOT_JUDGED
    if isinstance(moment.event, Step) and ("a", "b") not in trial.parted:
        a = moment.seen["a"]
        differing = disagreement(trial, moment.frozen.trainable, a.weights, seen.weights)
        if differing is not None:
            return (
                f"after a group was added at event {earlier.number}, B trains unlike A, which had it from the start, {at(moment)}: "
                f"{change(trial, differing, a.weights[differing], seen.weights[differing])}"
            )
    if not moment.last:
        return HELD if isinstance(moment.event, Step) else NOT_JUDGED
    added = tuple(i for i in earlier.seen["b"].added if all(i in each.frozen.trainable for each in trial.moments[earlier.number :]))
    found = stuck(trial, "b", earlier.number, added)
    if found is not None:
        trial.stuck.add(found)
        name, handed = trial.case.parameters[found[0]].name, at(trial.moments[found[1]])
        return f"{name}, in a group added at event {earlier.number}, does not train: it had a gradient {handed}, and has not moved"
    return HELD if moved(trial, "b", earlier.number, added) else NOT_JUDGED


INVARIANT = Invariant(
    id="group-added-trains",
    statement=(
        "add_param_group during training (gradual unfreezing): the group trains, bit for bit as one that was there from the "
        "start, and leaves the others alone"
    ),
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html",
    judge=judge,
    compares=True,
)
