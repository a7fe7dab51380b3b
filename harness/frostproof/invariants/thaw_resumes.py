"""A parameter that is unfrozen trains: with the optimizer state that it had, or with none."""

from frostproof.invariants.assertions import stuck
from frostproof.invariants.invariant import Invariant, Judgements
from frostproof.invariants.movement import trains
from frostproof.spec.case import Role
from frostproof.spec.program import Thaw, mask_changes
from frostproof.training.observation import EventRecord, Trial

ROLES: tuple[Role, ...] = ("a", "b", "gradual")
STUCK = stuck(
    "{name}, thawed at event {since}, does not train in approach {approach}: "
    "it had a gradient {found_at}, and has not moved since it was thawed"
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for earlier in trial.records if record.last else ():
        thaws = (each for each in mask_changes(earlier.event) if isinstance(each, Thaw))
        positions = (trial.case.positions[name] for each in thaws for name in each.names)
        thawed = tuple(i for i in positions if _trains_since(trial, earlier.number, i))
        for role in (each for each in ROLES if each in record.observations):
            yield from trains(STUCK, trial, record, role, earlier.number, thawed)


def _trains_since(trial: Trial, number: int, i: int) -> bool:
    """Whether parameter `i` was frozen before the event with this number, and never since."""
    frozen = (
        trial.case.initially_frozen if number == 0 else trial.case.mask_timeline[number - 1].at_step
    )
    return i in frozen and all(i in record.mask.trainable for record in trial.records[number:])


INVARIANT = Invariant(
    "thaw-resumes",
    "after a parameter is unfrozen, step() does not raise, and the parameter trains again",
    judge,
    "https://discuss.pytorch.org/t/71917",
    mend="create missing state in step(), where a parameter has its first gradient",
)
