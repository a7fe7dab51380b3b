"""An optimizer changes weights and its own state, and nothing else."""

from frostproof.invariants.invariant import HELD, Invariant, Judgements, Kind
from frostproof.spec.program import mask_changes
from frostproof.training.observation import EventRecord, Trial

GROUP_IDS = '[id(p) for group in optimizer.param_groups for p in group["params"]]'
FLIPPED = Kind(
    "flipped",
    "the optimizer flipped requires_grad of {name} to {found}",
    "{tensor}.requires_grad is {found}",
)
FLIPPED_BY_ADDING = Kind(
    "flipped-by-adding",
    "add_param_group made {name} require grad, which is still frozen",
    "{tensor}.requires_grad",
    "added",
)
GRAD_MODE = Kind(
    "grad-mode", "the optimizer left gradients disabled", "not torch.is_grad_enabled()"
)
DEFAULT_DTYPE = Kind(
    "default-dtype",
    "the optimizer set the default dtype to {found}",
    "torch.get_default_dtype() != {expected}",
)


def _groups(notes: dict[str, str], *after: str) -> Kind:
    text = "the optimizer replaced, dropped or reordered parameters in param_groups"
    return Kind("groups", text, f"order != {GROUP_IDS}", notes=notes, after=after)


GROUPS = _groups({}, "order = [id(p) for p in {listed}]")
OWN_GROUPS = _groups({"before": f"order = {GROUP_IDS}"})
"""Of an optimizer that makes groups of its own, only a change during the event is known."""
EDITED_GROUPS = _groups({"handed": f"order = {GROUP_IDS}"})


def judge(trial: Trial, record: EventRecord) -> Judgements:
    for role, observed in record.observations.items():
        for i in observed.flipped_flags:
            yield FLIPPED.breach(record, role, i, found=observed.flags[i])
        for i in observed.flags_flipped_by_adding:
            yield FLIPPED_BY_ADDING.breach(record, role, i)
        if not observed.grad_enabled:
            yield GRAD_MODE.breach(record, role)
        if observed.default_dtype is not None:
            yield DEFAULT_DTYPE.breach(record, role, None, *observed.default_dtype)
        if not observed.groups_kept:
            own = EDITED_GROUPS if mask_changes(record.event) else OWN_GROUPS
            kind = own if observed.group_order is None else GROUPS
            yield kind.breach(record, role, expected=observed.group_order)
        yield HELD


INVARIANT = Invariant(
    "flags-untouched",
    "an optimizer leaves requires_grad, the grad mode, the default dtype, and the parameters in "
    "its groups as it found them",
    judge,
    "https://docs.pytorch.org/docs/stable/optim.html",
    freezing=False,
    mend="leave requires_grad, the grad mode and the groups alone, or put them back",
)
