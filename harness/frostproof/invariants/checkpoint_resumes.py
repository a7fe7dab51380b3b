"""A checkpoint holds what training needs: the same mask, a new optimizer, and it goes on as if nothing had been."""

from frostproof.invariants.breach import HELD, NOT_JUDGED, Judgement
from frostproof.invariants.invariant import Invariant
from frostproof.invariants.pairs import Comparison, Part
from frostproof.spec.program import SaveLoad, Step
from frostproof.training.observation import Moment, Trial

EXPECTED = "a new model and optimizer that load the checkpoint go on bit for bit as without it"
PAIRS = {
    ("a", "resumed"): Comparison(
        "approach A, resumed from its checkpoint of event {since}, differs", EXPECTED
    ),
    ("b", "resumed-b"): Comparison(
        "approach B, resumed from its checkpoint of event {since}, differs", EXPECTED
    ),
}


def judge(trial: Trial, moment: Moment) -> Judgement:
    resumed = [each.number for each in trial.moments if isinstance(each.event, SaveLoad)]
    if not resumed or not isinstance(moment.event, Step | SaveLoad):
        return NOT_JUDGED
    parts: tuple[Part, ...] = ("weights", "losses", "buffers")
    if isinstance(moment.event, SaveLoad):
        parts += ("states",)
    for roles, comparison in PAIRS.items():
        if roles[1] not in moment.seen or roles in trial.parted:
            continue
        found = comparison.differing(trial, moment, roles, parts, since=resumed[-1])
        if found is not None:
            return found
    resumed_bitwise = (
        isinstance(moment.event, Step)
        and moment.seen["a"].stepped
        and ("a", "resumed") not in trial.parted
    )
    return HELD if resumed_bitwise else NOT_JUDGED


INVARIANT = Invariant(
    id="checkpoint-resumes",
    statement="state_dict into a new optimizer with the same mask, frozen parameters included: continues bitwise",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.load_state_dict.html",
    judge=judge,
    compares=True,
)
