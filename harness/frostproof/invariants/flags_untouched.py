"""An optimizer changes weights and its own state, and nothing else."""

from frostproof.invariants.breach import HELD, Assertion, Breach, Judgement, Kind, Shown
from frostproof.invariants.invariant import Invariant
from frostproof.spec.case import parameters_expression
from frostproof.spec.program import mask_changes
from frostproof.training.observation import Moment, Trial
from frostproof.training.source import block

HELD_BY_GROUPS = '[id(p) for group in optimizer.param_groups for p in group["params"]]'


def judge(trial: Trial, moment: Moment) -> Judgement:
    for role, seen in moment.seen.items():
        if seen.flipped:
            return Breach(
                FLIPPED, (role,), moment.number, seen.flipped[:1], found=seen.flags[seen.flipped[0]]
            )
        if seen.flipped_by_adding:
            return Breach(FLIPPED_BY_ADDING, (role,), moment.number, seen.flipped_by_adding[:1])
        if not seen.grad_enabled:
            return Breach(GRAD_MODE, (role,), moment.number)
        if seen.default_dtype is not None:
            return Breach(
                DEFAULT_DTYPE,
                (role,),
                moment.number,
                expected=seen.default_dtype[0],
                found=seen.default_dtype[1],
            )
        if not seen.groups_kept:
            return Breach(GROUPS, (role,), moment.number, expected=seen.grouping)
    return HELD


def _flag_kept(shown: Shown) -> Assertion:
    flag = shown.breach.found
    text = f"the optimizer flipped requires_grad of {shown.name} to {flag}"
    verdict = shown.exits_if(f"{shown.tensor}.requires_grad is {flag}", text)
    return Assertion(
        f"requires_grad of {shown.name} is the user's to set, and was {not flag}", verdict=[verdict]
    )


def _flag_kept_by_adding(shown: Shown) -> Assertion:
    text = f"add_param_group made {shown.name} require grad, which is still frozen"
    return shown.noted(
        "a group may be added while it is frozen",
        "added",
        shown.exits_if(f"{shown.tensor}.requires_grad", text),
    )


def _grad_mode_kept(shown: Shown) -> Assertion:
    test = shown.exits_if("not torch.is_grad_enabled()", "the optimizer left gradients disabled")
    return Assertion("an optimizer leaves the grad mode as it found it", verdict=[test])


def _dtype_kept(shown: Shown) -> Assertion:
    text = "the optimizer set the default dtype to {torch.get_default_dtype()}"
    test = shown.exits_if(f"torch.get_default_dtype() != {shown.breach.expected}", text)
    return Assertion("an optimizer leaves torch's default dtype as it found it", verdict=[test])


def _groups_kept(shown: Shown) -> Assertion:
    text = shown.leave("the optimizer replaced, dropped or reordered parameters in param_groups")
    expected = "an optimizer keeps the parameters that it received, in their order"
    if shown.breach.expected is not None:
        order = f"[id(p) for p in {parameters_expression(shown.case, shown.breach.expected)}]"
        return Assertion(
            expected, verdict=[f"order = {order}", block(f"if order != {HELD_BY_GROUPS}:", text)]
        )
    found = shown.noted(
        expected,
        "handed" if mask_changes(shown.moment.event) else "before",
        f"order = {HELD_BY_GROUPS}",
    )
    found.verdict = [block(f"if order != {HELD_BY_GROUPS}:", text)]
    return found


FLIPPED = Kind(
    "flipped",
    lambda shown: f"the optimizer flipped requires_grad of {shown.name} {shown.where}",
    _flag_kept,
)
FLIPPED_BY_ADDING = Kind(
    "flipped-by-adding",
    lambda shown: (
        f"add_param_group made {shown.name} require grad, which was still frozen, {shown.where}"
    ),
    _flag_kept_by_adding,
)
GRAD_MODE = Kind(
    "grad-mode",
    lambda shown: (
        f"the optimizer left gradients disabled (torch.is_grad_enabled() is False) {shown.where}"
    ),
    _grad_mode_kept,
)
DEFAULT_DTYPE = Kind(
    "default-dtype",
    lambda shown: f"the optimizer set the default dtype to {shown.breach.found} {shown.where}",
    _dtype_kept,
)
GROUPS = Kind(
    "groups",
    lambda shown: f"the optimizer replaced or reordered parameters in param_groups {shown.where}",
    _groups_kept,
)

INVARIANT = Invariant(
    id="flags-untouched",
    statement="the optimizer flips no requires_grad, no grad mode, no default dtype, replaces no parameter, reorders no group",
    severity="wrong",
    source="https://docs.pytorch.org/docs/stable/optim.html",
    judge=judge,
    needs_values=False,
    freezing=False,
)
