"""A and B train alike: the same losses and the same updates, bit for bit."""

from frostproof.invariants.agreement import disagreement, is_rounding
from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, numbers
from frostproof.observation import Moment, Trial
from frostproof.program import Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    trainable = moment.frozen.trainable
    if not trainable or not isinstance(moment.event, Step) or ("a", "b") in trial.parted:
        return NOT_JUDGED
    if trial.first_added("b"):
        return NOT_JUDGED  # from then on, it is for group-added-trains to judge
    a, b = moment.seen["a"], moment.seen["b"]
    i = disagreement(trial, trainable, a.weights, b.weights)
    if i is not None:
        return f"A and B update a trainable parameter differently {at(moment)} (A -> B): {change(trial, i, a.weights[i], b.weights[i])}"
    if a.losses != b.losses:
        if len(a.losses) != len(b.losses):
            return f"A evaluated the loss {len(a.losses)} times and B {len(b.losses)} times {at(moment)}"
        for left, right in zip(a.losses, b.losses, strict=True):
            if left != right and not is_rounding(trial, left, right):
                return f"A and B differ in the loss {at(moment)} (A -> B): loss{numbers(trial.case.dtype, left, right)}"
    if a.buffers != b.buffers and not trial.allows_rounding:
        return f"A and B differ in the buffers of the model {at(moment)}"
    return HELD


INVARIANT = Invariant(
    id="trainable-updates-match",
    statement=(
        "for all trainable p, all steps at which A and B hand their optimizers the same: bits(p in A) = bits(p in B), and the losses "
        "and buffers too; where they hand them something else, its cause is seen"
    ),
    severity="wrong",
    source="https://discuss.pytorch.org/t/58156",
    judge=judge,
    compares=True,
)
