"""A and B train alike: the same losses and the same updates, bit for bit."""

from frostproof.invariants.agreement import disagreement, is_rounding
from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, numbers
from frostproof.observation import Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    if not trial.case.trainable or not isinstance(moment.event, Step):
        return NOT_JUDGED
    a, b = moment.seen["a"], moment.seen["b"]
    i = disagreement(trial, a.weights, b.weights)
    if i is not None:
        return f"A and B update a trainable parameter differently {at(moment)} (A -> B): {change(trial, i, a.weights[i], b.weights[i])}"
    if a.losses != b.losses:
        if len(a.losses) != len(b.losses):
            return f"A evaluated the loss {len(a.losses)} times and B {len(b.losses)} times {at(moment)}"
        for left, right in zip(a.losses, b.losses, strict=True):
            if left != right and not is_rounding(trial, left, right):
                return f"A and B differ in the loss {at(moment)} (A -> B): loss{numbers(trial.case.dtype, left, right)}"
    return HELD


INVARIANT = Invariant(
    id="trainable-updates-match",
    statement="for all trainable p, all steps: bits(p in A) = bits(p in B), and the losses too",
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    compares=True,
)
