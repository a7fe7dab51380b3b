"""Gradual unfreezing: a group that is added during training trains, and changes no other group."""

from frostproof.invariants.assertions import moves, stays
from frostproof.invariants.breach import HELD, Judgements, Kind
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.movement import trains, unmoved
from frostproof.invariants.pairs import Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial

AB = Comparison(
    "after a group was added at event {since}, B trains unlike A, which had it from the start,",
    "a group that is added trains like one that was there from the start, "
    "and leaves the others alone",
    exact=False,
)
MOVED = Kind(
    "moved",
    "add_param_group moved a parameter {at}: {change}",
    "adding a group moves nothing",
    stays("add_param_group moved"),
)
STUCK = Kind(
    "stuck",
    "{name}, in a group added at event {since}, does not train: it had a gradient {found_at}, "
    "and has not moved",
    "what is in a group that was added trains",
    moves("{name}, in a group that was added, had a gradient and has not moved"),
    stuck=True,
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    added = trial.first_added("b")
    if added is None:
        return
    observed, since = record.observations["b"], added.number
    if observed.added_to_optimizer and not observed.optimizer_called:
        for judgement in unmoved(MOVED, record, "b", range(len(observed.weights))):
            if judgement is not HELD:
                yield judgement
    stepped = isinstance(record.event, Step)
    if stepped and ("a", "b") not in trial.diverged:
        trainable = record.mask.trainable
        breach = AB.difference(trial, record, ("a", "b"), ("weights",), trainable, since)
        if breach is not None:
            yield breach
    if stepped and not record.last:
        yield HELD
    if record.last:
        members, later = added.observations["b"].added_to_optimizer, trial.records[since:]
        members = tuple(i for i in members if all(i in each.mask.trainable for each in later))
        yield from trains(STUCK, trial, record, "b", since, members)


INVARIANT = Invariant(
    "group-added-trains",
    "add_param_group during training (gradual unfreezing): the group trains, bit for bit as one "
    "that was there from the start, and leaves the others alone",
    judge,
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html",
    compares=True,
)
