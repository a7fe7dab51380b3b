"""A frozen layer still hands gradients to the trainable layers below it."""

from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.invariants.pairs import Comparison
from frostproof.training.observation import EventRecord, Trial

AB = Comparison("freezing changes the gradient of a trainable parameter", exact=False)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    mask, observations = record.mask, record.observations
    trained = tuple(i for i in mask.trainable if i not in (*mask.in_forward, *mask.in_backward))
    if trained and all(observations[role].grads_after_backward for role in ("a", "b")):
        yield from AB.compare(trial, record, ("a", "b"), ("gradients",), trained)


INVARIANT = Invariant(
    "gradients-pass-through",
    "a trainable parameter gets bit for bit the gradient that it gets with nothing frozen",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    compares=True,
    needs_optimizer=False,
)
