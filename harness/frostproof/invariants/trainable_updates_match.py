"""A and B train alike: the same losses and the same updates, bit for bit."""

from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.invariants.pairs import TRAINED, Comparison, PartName
from frostproof.spec.program import Eval, Step
from frostproof.training.observation import EventRecord, Trial

AB = Comparison("A and B update a trainable parameter differently", exact=False)
WAY = Comparison("your way trains unlike A{chosen_settings}", exact=False)

PARTS_OF_EVENT: dict[type, tuple[PartName, ...]] = {Step: TRAINED, Eval: ("weights",)}
"""What is compared after an event: an optimizer may have other weights for evaluation."""


def judge(trial: Trial, record: EventRecord) -> Judgements:
    trainable = record.mask.trainable
    # Once a group was added, group-added-trains judges it.
    parts = PARTS_OF_EVENT.get(type(record.event)) if trainable else None
    if parts and not trial.first_added("b"):
        yield from AB.compare(trial, record, ("a", "b"), parts, trainable)
    if parts:
        yield from WAY.compare(trial, record, ("a", "way"), parts, trainable)


INVARIANT = Invariant(
    "trainable-updates-match",
    "A and B give every trainable parameter the same bits in every step and in eval mode, with the "
    "same losses and buffers, unless a cause was observed for which their optimizers receive "
    "different inputs",
    judge,
    "https://discuss.pytorch.org/t/58156",
    compares=True,
    mend="let what a frozen parameter has or lacks reach no other: compute norms, counts and "
    "orders over the parameters that the step updates",
)
