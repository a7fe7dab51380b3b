"""A frozen layer still hands gradients to the trainable layers below it."""

from frostproof.invariants.breach import HELD, Judgements
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import Comparison
from frostproof.training.observation import EventRecord, Trial

AB = Comparison(
    "freezing changes the gradient of a trainable parameter",
    "a frozen layer hands on the same gradients as one that trains",
    exact=False,
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    mask = record.mask
    frozen = {*mask.forward, *mask.backward}
    trained = tuple(i for i in mask.trainable if i not in frozen)
    roles = record.observations["a"], record.observations["b"]
    if not trained or ("a", "b") in trial.diverged:
        return
    if all(observed.grads_after_backward is not None for observed in roles):
        yield AB.difference(trial, record, ("a", "b"), ("gradients",), trained) or HELD


INVARIANT = Invariant(
    "gradients-pass-through",
    "the gradients of trainable p are bitwise those of the model with nothing frozen",
    judge,
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    compares=True,
    needs_optimizer=False,
)
