"""An optimizer changes weights and its own state, and nothing else."""

from frostproof.invariants.invariant import HELD, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    for role, seen in moment.seen.items():
        if seen.flipped:
            name = trial.case.parameters[seen.flipped[0]].name
            return f"the optimizer flipped requires_grad of {name} {at(moment)}, approach {trial.names[role]}"
        if not seen.grad_enabled:
            return f"the optimizer left gradients disabled (torch.is_grad_enabled() is False) {at(moment)}, approach {trial.names[role]}"
        if seen.default_dtype is not None:
            return f"the optimizer set the default dtype to {seen.default_dtype} {at(moment)}, approach {trial.names[role]}"
        if not seen.groups_kept:
            return f"the optimizer replaced or reordered parameters in param_groups {at(moment)}, approach {trial.names[role]}"
    return HELD


INVARIANT = Invariant(
    id="flags-untouched",
    statement="the optimizer flips no requires_grad, no grad mode, no default dtype, replaces no parameter, reorders no group",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/optim.html",
    judge=judge,
    needs_values=False,
)
