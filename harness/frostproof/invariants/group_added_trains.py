"""Gradual unfreezing: a group that is added during training trains, and changes no other group."""

from frostproof.invariants.assertions import moved, stuck, unmoved
from frostproof.invariants.invariant import HELD, Invariant, Judgements
from frostproof.invariants.movement import trains
from frostproof.invariants.pairs import Comparison, comparable
from frostproof.spec.program import Eval, Step
from frostproof.training.observation import EventRecord, Trial

AB = Comparison(
    "A, which had each group from the start, and B, which got one at event {since}, train unlike "
    "each other",
    exact=False,
)
MOVED = moved("add_param_group moved a parameter", " {at}: {change}")
STUCK = stuck(
    "{name}, in a group added at event {since}, does not train: it had a gradient {found_at}, "
    "and has not moved"
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    added = trial.first_added("b")
    if added is None:
        return
    observed, since = record.observations["b"], added.number
    if observed.added_to_optimizer and not observed.optimizer_called:
        everything = range(len(observed.weights))
        yield from (j for j in unmoved(MOVED, trial, record, "b", everything) if j is not HELD)
    if isinstance(record.event, Step | Eval):
        trainable = record.mask.trainable
        if comparable(trial, record, ("a", "b")):
            yield from AB.differences(trial, record, ("a", "b"), ("weights",), trainable, since)
        if not record.last:
            yield HELD
    if record.last:
        members, later = added.observations["b"].added_to_optimizer, trial.records[since:]
        members = tuple(i for i in members if all(i in each.mask.trainable for each in later))
        yield from trains(STUCK, trial, record, "b", since, members)


INVARIANT = Invariant(
    "group-added-trains",
    "a parameter group that is added during training (gradual unfreezing) trains with the same "
    "bits as one that was there from the start, as far as no count of steps of the group itself "
    "tells them apart, and changes no other parameter",
    judge,
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html",
    compares=True,
    violation_class="groups",
    mend="loop over param_groups in each step, and over no list that the constructor made",
)
