"""An optimizer changes weights and its own state, and nothing else."""

from frostproof.invariants.assertions import check
from frostproof.invariants.breach import HELD, Assertion, Judgements, Kind, ShownBreach
from frostproof.invariants.invariant import Invariant
from frostproof.spec.case import parameters
from frostproof.spec.program import changes
from frostproof.training.observation import EventRecord, Trial

GROUP_IDS = '[id(p) for group in optimizer.param_groups for p in group["params"]]'


def _groups_kept(shown: ShownBreach) -> Assertion:
    test = f"order != {GROUP_IDS}"
    text = "the optimizer replaced, dropped or reordered parameters in param_groups"
    if shown.expected is not None:
        order = f"order = [id(p) for p in {parameters(shown.case, shown.expected)}]"
        return check(test, text, after=[order])(shown)
    point = "handed" if changes(shown.record.event) else "before"
    return check(test, text, notes={point: f"order = {GROUP_IDS}"})(shown)


FLIPPED = Kind(
    "flipped",
    "the optimizer flipped requires_grad of {name} {where}",
    "requires_grad of {name} is the user's to set, and was {expected}",
    check(
        "{tensor}.requires_grad is {found}",
        "the optimizer flipped requires_grad of {name} to {found}",
    ),
)
FLIPPED_BY_ADDING = Kind(
    "flipped-by-adding",
    "add_param_group made {name} require grad, which was still frozen, {where}",
    "a group may be added while it is frozen",
    check(
        "{tensor}.requires_grad",
        "add_param_group made {name} require grad, which is still frozen",
        at="added",
    ),
)
GRAD_MODE = Kind(
    "grad-mode",
    "the optimizer left gradients disabled (torch.is_grad_enabled() is False) {where}",
    "an optimizer leaves the grad mode as it found it",
    check("not torch.is_grad_enabled()", "the optimizer left gradients disabled"),
)
DEFAULT_DTYPE = Kind(
    "default-dtype",
    "the optimizer set the default dtype to {found} {where}",
    "an optimizer leaves torch's default dtype as it found it",
    check(
        "torch.get_default_dtype() != {expected}",
        "the optimizer set the default dtype to {{torch.get_default_dtype()}}",
    ),
)
GROUPS = Kind(
    "groups",
    "the optimizer replaced or reordered parameters in param_groups {where}",
    "an optimizer keeps the parameters that it received, in their order",
    _groups_kept,
)


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        for i in observed.flipped_flags:
            flag = observed.flags[i]
            yield FLIPPED.breach(record, role, i, expected=not flag, found=flag)
        for i in observed.flags_flipped_by_adding:
            yield FLIPPED_BY_ADDING.breach(record, role, i)
        if not observed.grad_enabled:
            yield GRAD_MODE.breach(record, role)
        if observed.default_dtype is not None:
            yield DEFAULT_DTYPE.breach(record, role, None, *observed.default_dtype)
        if not observed.groups_kept:
            yield GROUPS.breach(record, role, expected=observed.group_order)
        yield HELD


INVARIANT = Invariant(
    "flags-untouched",
    "the optimizer flips no requires_grad, no grad mode, no default dtype, replaces no parameter, "
    "reorders no group",
    judge,
    "https://docs.pytorch.org/docs/stable/optim.html",
    needs_values=False,
    freezing=False,
)
