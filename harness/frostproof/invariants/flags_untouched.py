"""An optimizer changes weights and its own state, and nothing else."""

from frostproof.invariants.invariant import HELD, Invariant, Judgement
from frostproof.invariants.wording import at
from frostproof.observation import Moment, Trial


def judge(trial: Trial, moment: Moment) -> Judgement:
    for role, seen in moment.seen.items():
        before = trial.starts[role].requires_grad
        if seen.requires_grad != before:
            i = next(i for i, flag in enumerate(before) if flag != seen.requires_grad[i])
            name = trial.case.parameters[i].name
            return f"the optimizer set requires_grad={seen.requires_grad[i]} on {name} {at(moment)}, approach {trial.names[role]}"
        if not seen.grad_enabled:
            return f"the optimizer left gradients disabled (torch.is_grad_enabled() is False) {at(moment)}, approach {trial.names[role]}"
        if not seen.groups_kept:
            return f"the optimizer replaced or reordered parameters in param_groups {at(moment)}, approach {trial.names[role]}"
    return HELD


INVARIANT = Invariant(
    id="flags-untouched",
    statement="the optimizer flips no requires_grad, no grad mode, replaces no parameter, reorders no group",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/optim.html",
    judge=judge,
    needs_values=False,
)
