"""A checkpoint holds all that training needs: it goes on as if it was never interrupted."""

from frostproof.invariants.invariant import HELD, Invariant, Judgements
from frostproof.invariants.pairs import TRAINED, Comparison, comparable
from frostproof.spec.case import Role
from frostproof.spec.program import SaveLoad, Step
from frostproof.training.observation import EventRecord, Trial

RESUMED = Comparison(
    "approach {approach}, resumed from its checkpoint of event {since}{unlike_attributes}, differs"
)
PAIRS: tuple[tuple[Role, Role], ...] = (("a", "resumed"), ("b", "resumed-b"))


def judge(trial: Trial, record: EventRecord) -> Judgements:
    saves = [each.number for each in trial.records if isinstance(each.event, SaveLoad)]
    if not saves or not isinstance(record.event, Step | SaveLoad):
        return
    saved = isinstance(record.event, SaveLoad)
    parts = (*TRAINED, "states") if saved else TRAINED
    for roles in PAIRS:
        if comparable(trial, record, roles):
            yield from RESUMED.differences(trial, record, roles, parts, since=saves[-1])
    if not saved and record.observations["a"].optimizer_called and PAIRS[0] not in trial.diverged:
        yield HELD


INVARIANT = Invariant(
    "checkpoint-resumes",
    "a new model and a new optimizer that load a checkpoint, with the same frozen parameters, "
    "continue with the same bits as training without the interruption",
    judge,
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.load_state_dict.html",
    compares=True,
    freezing=False,
    violation_class="checkpoint",
    mend="keep what step() counts in state or in param_groups, where state_dict() finds it, "
    "and restore all of it in load_state_dict()",
)
