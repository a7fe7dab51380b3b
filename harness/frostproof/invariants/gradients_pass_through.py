"""A frozen layer still hands gradients to the trainable layers below it."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Judgement
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import Comparison
from frostproof.training.observation import Moment, Trial

AB = Comparison(
    "freezing changes the gradient of a trainable parameter",
    "a frozen layer hands on the same gradients as one that trains",
    exact=False,
)


def judge(trial: Trial, moment: Moment) -> Judgement:
    a, b = moment.seen["a"].gradients, moment.seen["b"].gradients
    during = moment.mask
    trained = tuple(
        i for i in during.trainable if i not in during.in_forward and i not in during.in_backward
    )
    if a is None or b is None or not trained or ("a", "b") in trial.parted:
        return NOT_JUDGED
    return AB.differing(trial, moment, ("a", "b"), ("gradients",), trained) or HELD


INVARIANT = Invariant(
    id="gradients-pass-through",
    statement="the gradients of trainable p are bitwise those of the model with nothing frozen",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    judge=judge,
    compares=True,
    needs_optimizer=False,
)
