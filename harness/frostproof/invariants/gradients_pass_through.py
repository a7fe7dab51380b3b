"""A frozen layer still hands gradients to the trainable layers below it."""

from frostproof.invariants.agreement import disagreement
from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    a, b = moment.seen["a"].gradients, moment.seen["b"].gradients
    during = moment.frozen
    trained = tuple(i for i in during.trainable if i not in during.forward and i not in during.backward)
    if a is None or b is None or not trained or ("a", "b") in trial.parted:
        return NOT_JUDGED
    i = disagreement(trial, trained, b, a)
    if i is not None:
        return f"freezing changes the gradient of a trainable parameter {at(moment)} (nothing frozen -> A): {change(trial, i, b[i], a[i])}"
    return HELD


INVARIANT = Invariant(
    id="gradients-pass-through",
    statement="the gradients of trainable p are bitwise those of the model with nothing frozen",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad",
    judge=judge,
    compares=True,
    needs_optimizer=False,
)
