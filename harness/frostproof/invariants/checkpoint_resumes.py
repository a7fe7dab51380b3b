"""A checkpoint holds what training needs: the same mask, a new optimizer, and it goes on as if nothing had been."""

from frostproof.invariants.invariant import HELD, NOT_JUDGED, Invariant, Judgement
from frostproof.invariants.wording import at, change, first_difference
from frostproof.observation import Moment, Trial
from frostproof.program import SaveLoad, Step


def judge(trial: Trial, moment: Moment) -> Judgement:
    resumed = [each.number for each in trial.moments if isinstance(each.event, SaveLoad)]
    if not resumed or not isinstance(moment.event, Step | SaveLoad):
        return NOT_JUDGED
    for role, other in (("a", "resumed"), ("b", "resumed-b")):
        if other not in moment.seen or (role, other) in trial.parted:
            continue
        one, two = moment.seen[role], moment.seen[other]
        where = f"approach {trial.names[role]}, resumed from its checkpoint of event {resumed[-1]}, differs {at(moment)}"
        if one.weights != two.weights:
            i = first_difference(range(len(one.weights)), one.weights, two.weights)
            return f"{where} (goes on -> resumed): {change(trial, i, one.weights[i], two.weights[i])}"
        if (one.losses, one.buffers) != (two.losses, two.buffers):
            return f"{where} in its losses or buffers"
        if isinstance(moment.event, SaveLoad) and one.states != two.states:
            i = next(i for i in one.states if one.states[i] != two.states.get(i))
            return f"{where} in what the optimizer knows of {trial.case.parameters[i].name}"
    resumed_bitwise = isinstance(moment.event, Step) and moment.seen["a"].stepped and ("a", "resumed") not in trial.parted
    return HELD if resumed_bitwise else NOT_JUDGED


INVARIANT = Invariant(
    id="checkpoint-resumes",
    statement="state_dict into a new optimizer with the same mask, frozen parameters included: continues bitwise",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.load_state_dict.html",
    judge=judge,
    compares=True,
)
