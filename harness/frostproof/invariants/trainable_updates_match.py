"""A and B train alike: the same losses and the same updates, bit for bit."""

from frostproof.invariants.breach import HELD, Judgements
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import TRAINED, Comparison
from frostproof.spec.program import Step
from frostproof.training.observation import EventRecord, Trial

AB = Comparison(
    "A and B update a trainable parameter differently",
    "A freezes by requires_grad=False, B by what the optimizer owns: what trains must train alike",
    exact=False,
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    trainable = record.mask.trainable
    if not trainable or not isinstance(record.event, Step) or ("a", "b") in trial.diverged:
        return
    if not trial.first_added("b"):  # from then on, group-added-trains judges it
        yield AB.difference(trial, record, ("a", "b"), TRAINED, trainable) or HELD


INVARIANT = Invariant(
    "trainable-updates-match",
    "for all trainable p, all steps at which A and B hand their optimizers the same: "
    "bits(p in A) = bits(p in B), and the losses and buffers too; where they hand them something "
    "else, its cause is seen",
    judge,
    "https://discuss.pytorch.org/t/58156",
    compares=True,
)
