"""A and B train alike: the same losses and the same updates, bit for bit."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Judgement
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import Moment, Trial

AB = Comparison(
    "A and B update a trainable parameter differently",
    "A freezes by requires_grad=False, B by what the optimizer owns: what trains must train alike",
    exact=False,
)


def judge(trial: Trial, moment: Moment) -> Judgement:
    trainable = moment.mask.trainable
    if not trainable or not isinstance(moment.event, Step) or ("a", "b") in trial.parted:
        return NOT_JUDGED
    if trial.first_added("b"):
        return NOT_JUDGED  # from then on, it is for group-added-trains to judge
    return (
        AB.differing(trial, moment, ("a", "b"), ("weights", "losses", "buffers"), trainable) or HELD
    )


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
