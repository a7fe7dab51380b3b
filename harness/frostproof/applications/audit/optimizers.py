"""Statements about the optimizer: what it owns, what it still moves, and its checkpoints."""

from __future__ import annotations

from frostproof.applications.audit.bench import Bench, code
from frostproof.applications.audit.statements import (
    Statement,
    Statements,
    is_matched,
    moves,
)
from frostproof.applications.watching.snapshot import owned_ids
from frostproof.spec.patterns import listed

OWNED = 'owned = {id(p) for group in optimizer.param_groups for p in group["params"]}'


def not_owned(bench: Bench) -> Statements:
    """Trainable parameters that the optimizer does not have."""
    model, owned = bench.model, owned_ids([bench.names["optimizer"]])
    missing = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in owned]
    foreign = owned - {id(p) for p in model.parameters()}
    if missing:
        why = ""
        if foreign:
            why = (
                f", and owns {len(foreign)} tensors that are not the model's: it was built before "
                "a module was replaced"
            )
        yield Statement(
            severity="mistake",
            subject="not in the optimizer",
            text=f"{listed(missing)} train nowhere: the optimizer does not own them{why}",
            shows=(OWNED, f"id({code(missing[0])}) not in owned"),
            remedy="build the optimizer from all parameters, after the last change of the model",
        )


def left_over(bench: Bench) -> Statements:
    """Gradients that frozen parameters have from before they were frozen."""
    names = bench.fresh()
    frozen = [(n, p) for n, p in names["model"].named_parameters() if not p.requires_grad]
    left = [name for name, p in frozen if p.grad is not None]
    for name in left:
        lines = moves(name, stepping="optimizer.step()")
        if bench.shows(lines):
            zeros = not names["model"].get_parameter(name).grad.any()
            what = "a gradient of zeros" if zeros else "the gradient of an earlier backward pass"
            why = ", with which optimizers decay weights and follow momentum" if zeros else ""
            yield Statement(
                severity="mistake",
                subject="leftover gradients",
                text=f"{listed(left)}: frozen, and still with {what}{why}, so that a step "
                f"moves {name}, unless zero_grad() sets it to None before",
                shows=lines,
                remedy="for p in model.parameters(): p.grad = None",
            )
            return
    owned = owned_ids([names["optimizer"]])
    unowned = [name for name, p in frozen if name in left and id(p) not in owned]
    if unowned:
        lines = (f"grad = {code(unowned[0])}.grad", "grad is not None")
        if bench.shows(lines):
            yield Statement(
                severity="note",
                subject="leftover gradients",
                text=f"{listed(unowned)}: frozen, and still with the gradient of an earlier "
                "backward pass. No optimizer owns it, so that optimizer.zero_grad() leaves it, and "
                "clip_grad_norm_(model.parameters()) counts it",
                shows=lines,
                remedy="for p in model.parameters(): p.grad = None",
            )


def moved(bench: Bench) -> Statements:
    """Frozen parameters that one step moves, and what would make later steps move them."""
    names = bench.fresh()
    frozen = {n: p for n, p in names["model"].named_parameters() if not p.requires_grad}
    before = {name: p.detach().clone() for name, p in frozen.items()}
    names["train"]()
    found = [name for name, p in frozen.items() if not before[name].equal(p)]
    if found:
        yield Statement(
            severity="mistake",
            subject="moved by the optimizer",
            text=f"one step moves {listed(found)}, which is frozen",
            shows=moves(found[0]),
            remedy="hand the optimizer only parameters that require grad",
        )
        return
    first = _with_gradient(bench)
    if first is None or bench.already_frozen:  # the model's own freezing comes before any gradient
        return
    later = (
        f"model.requires_grad_(True); train(); freeze(); before = {code(first)}.detach().clone()"
    )
    moving = f"not torch.equal(before, {code(first)})"
    yield Statement(
        severity="note",
        subject="leftover gradients",
        text=f"if they are frozen after a backward pass, the next step still moves {first}",
        shows=(f"{later}; optimizer.step()", moving),
        remedy="optimizer.zero_grad()  # after freezing",
    )
    yield Statement(
        severity="note",
        subject="gradients of zeros",
        text=f"gradients that are zeros and not None still move {first}, by decay or momentum",
        shows=(f"{later}; optimizer.zero_grad(set_to_none=False); optimizer.step()", moving),
        remedy="optimizer.zero_grad(set_to_none=True)",
    )


def _with_gradient(bench: Bench) -> str | None:
    """The first parameter that a pattern matches and that has a gradient if nothing is frozen."""
    names = [bench.network.weights[i].name for i in sorted(bench.network.reached((), False))]
    return next((name for name in names if is_matched(bench, name)), None)


def checkpoint_of_another_mask(bench: Bench) -> Statements:
    """Whether the state of an optimizer over the trainable parameters fits another mask."""
    every = [*bench.model.parameters()]
    trainable = [p for p in every if p.requires_grad]
    if bench.is_users and owned_ids([bench.names["optimizer"]]) >= {id(p) for p in every}:
        return
    if [id(p) for p in trainable] == [id(p) for p in every[: len(trainable)]]:
        return
    kind = "torch.optim.AdamW"
    yield Statement(
        severity="note",
        subject="checkpoints",
        text=f"an optimizer over the {len(trainable)} trainable parameters alone trains nothing "
        "that thaws later, and saves its state by number: its checkpoint would load without an "
        "error for any other mask with as many, although the state is that of other parameters; "
        "for a mask with another number it would not load",
        shows=(
            f"saved = {kind}([p for p in model.parameters() if p.requires_grad]).state_dict()",
            f"{kind}([*model.parameters()][:{len(trainable)}]).load_state_dict(saved) is None",
        ),
        remedy=f"{kind}(model.parameters())  # all of them, whatever is frozen",
    )
