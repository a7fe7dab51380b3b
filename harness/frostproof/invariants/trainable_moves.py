"""Something trains: without that, a trial of frozen weights proves nothing."""

from collections import Counter

from frostproof.invariants.assertions import stuck
from frostproof.invariants.invariant import HELD, Invariant, Judgements
from frostproof.invariants.movement import due, poisoned, watched_from
from frostproof.training.observation import EventRecord, Trial, picker

STUCK = stuck(
    "no trainable parameter moved in {events} events, though {name} had a gradient at event {found}"
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    if not record.last:
        return
    # At any event, and not at the end alone: steps of one size may lead back to the start. What has
    # trained before weights were loaded may skip the step after that, as Rprop does.
    for each in reversed(trial.records):
        take, observed = picker(each.mask.trainable), each.observations["a"]
        if take(observed.weights) != take(observed.weights_before):
            yield HELD
            return
    records = trial.records[watched_from(trial, 0) :]
    stepped = [each for each in records if each.observations["a"].optimizer_called]
    missed: Counter[int] = Counter()
    subject = trial.subject
    searches = subject.closure_gives_loss_alone or subject.closure == "with-arguments"
    for each in stepped:
        if each.observations["a"].closure is not None and (searches or each is not stepped[0]):
            continue  # a line search may stay, for what it remembers, or because the loss grew
        for i in each.mask.trainable:
            missed[i] += due(trial, each, "a", i)
            if missed[i] >= trial.subject.patience and not poisoned(trial, "a", i):
                yield STUCK.breach(record, "a", i, found=each.number)


INVARIANT = Invariant(
    "trainable-moves",
    "some element of a trainable parameter that has a non-zero gradient moves",
    judge,
    "a trial in which nothing trains proves nothing",
    mend="update each parameter that has a gradient",
)
