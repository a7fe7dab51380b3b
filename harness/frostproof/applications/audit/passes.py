"""Statements about one pass: buffers, random numbers, and parameters without a gradient."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable
from typing import Any

import torch
from torch import nn

from frostproof.applications.audit.bench import Bench, code
from frostproof.applications.audit.statements import (
    Severity,
    Statement,
    Statements,
    is_matched,
    moves,
)
from frostproof.spec.patterns import listed
from frostproof.training.frozen_parts import frozen_parts

PASSES = 8
"""So many passes decide that a parameter gets no gradient: some layers are left out at random."""


def parts_of(bench: Bench) -> dict[str, str]:
    """The frozen parts of the model, where what is meant to be frozen counts as frozen."""
    return frozen_parts(bench.model, lambda name, p: not p.requires_grad or is_matched(bench, name))


def evaluating(bench: Bench, paths: Iterable[str]) -> str:
    """The lines that put the frozen parts around these modules into eval mode."""
    parts = parts_of(bench)
    around = dict.fromkeys(parts[path] for path in paths)
    lines = "; ".join(f"{code(part)}.eval()" for part in around)
    return f"{lines}  # after each model.train(), while frozen"


def changing_buffers(bench: Bench) -> Statements:
    """Buffers of frozen modules that the forward pass rewrites, now or in a loop to come."""
    known = yield from _rewritten_buffers(bench, "train()", "mistake", set())
    yield from _rewritten_buffers(bench, "model.train(); train()", "note", known)


def _rewritten_buffers(
    bench: Bench, training: str, severity: Severity, known: Container[str]
) -> Generator[Statement, None, set[str]]:
    """Those that these lines rewrite, and that are not known. It returns their names."""
    names = bench.fresh()
    before = {name: b.clone() for name, b in names["model"].named_buffers()}
    try:
        exec(training, names)
    except Exception:  # what cannot be tried is not stated
        return set()
    parts, found = parts_of(bench), dict[str, list[str]]()
    for name, buffer in names["model"].named_buffers():
        path = name.rpartition(".")[0]
        changed = name in before and not torch.equal(before[name], buffer)
        if changed and name not in known and path in parts:
            kind = type(names["model"].get_submodule(path)).__name__
            found.setdefault(kind, []).append(name)
    does = "in train mode rewrites its buffers"
    if severity == "note":
        does = "is in eval mode now, and rewrites its buffers once model.train() is called"
    for kind, buffers in found.items():
        paths = list(dict.fromkeys(each.rpartition(".")[0] for each in buffers))
        first = code(buffers[0])
        yield Statement(
            severity=severity,
            subject="buffers change",
            text=f"{listed(paths)}: {kind} {does}, which frozen parameters do not stop",
            shows=(f"before = {first}.clone(); {training}", f"not torch.equal(before, {first})"),
            remedy=evaluating(bench, paths),
        )
    return {each for buffers in found.values() for each in buffers}


def random_numbers(bench: Bench) -> Statements:
    """Modules that draw random numbers in the forward pass."""
    names, training = bench.fresh(), "" if bench.model.training else "model.train(); "
    if training:
        names["model"].train()
    drawing = _drawing(names["model"], bench.call, names)
    if not drawing:
        return
    parts = parts_of(bench)
    frozen = [path for path in drawing if path in parts]
    others = [path for path in drawing if path not in frozen]
    where = []
    for what, paths in (("in frozen parts", frozen), ("in what trains", others)):
        if paths:
            kinds = dict.fromkeys(drawing[path] for path in paths)
            shown = listed([path or "the model itself" for path in paths])
            where.append(f"{what}: {shown} ({listed([*kinds])})")
    when = ", once model.train() is called," if training else ""
    yield Statement(
        severity="note",
        subject="random numbers",
        text=f"each forward pass{when} draws some {'; and '.join(where)}: to resume "
        "alike, a checkpoint needs torch.get_rng_state(), too",
        shows=(
            f"{training}state = torch.get_rng_state(); {bench.call}",
            "not torch.equal(state, torch.get_rng_state())",
        ),
        remedy=evaluating(bench, frozen) if frozen else "nothing: what trains may draw",
    )


def _drawing(model: nn.Module, call: str, names: dict[str, Any]) -> dict[str, str]:
    """The paths and the classes of the modules that draw themselves, not only in their children."""
    drawing: dict[str, str] = {}
    running: list[tuple[str, str]] = []
    state = torch.get_rng_state()

    def look() -> None:
        """Whatever was drawn since the last look, the innermost running module has drawn."""
        nonlocal state
        if running and not torch.equal(state, torch.get_rng_state()):
            drawing.setdefault(*running[-1])
        state = torch.get_rng_state()

    hooks = []
    for path, module in model.named_modules():

        def enter(m: nn.Module, *_: Any, path: str = path) -> None:
            look()
            running.append((path, type(m).__name__))

        def leave(*_: Any) -> None:
            look()
            running.pop()

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        exec(call, names)
    finally:
        for hook in hooks:
            hook.remove()
    return drawing


def without_gradient(bench: Bench) -> Statements:
    """Trainable parameters that get no gradient, as the mask makes it or in any case."""
    missing = _without_gradient(bench, bench.fresh())
    if not missing:
        return
    thawed = bench.fresh()
    thawed["model"].requires_grad_(True)
    never = _without_gradient(bench, thawed)
    for cut in (True, False):
        found = [name for name in missing if (name not in never) == cut]
        if not found:
            continue
        first = code(found[0])
        text = f"{listed(found)}: the forward pass does not use it, so that it never trains"
        remedy = "leave it out of the model; if adapters are merged into the base, unmerge them"
        if cut:
            text = f"{listed(found)}: no gradient comes here once the rest is frozen"
            remedy = "look for no_grad() and detach() in the forward pass"
        if cut and bench.network.recomputes:
            text += ", because the input of a reentrant checkpoint does not require grad"
            remedy = "checkpoint(..., use_reentrant=False)  # or x.requires_grad_()"
        # A model may have parameters for another use than this one; adapters are there to train.
        adapters = any("lora" in name.lower() for name in found)
        yield Statement(
            severity="mistake" if cut or adapters else "note",
            subject="cut off" if cut else "no gradient",
            text=text,
            shows=("train()", f"{first}.requires_grad and {first}.grad is None"),
            remedy=remedy,
        )


def _without_gradient(bench: Bench, names: dict[str, Any]) -> list[str]:
    """The names of trainable parameters that get no gradient in any of several passes."""
    missing = [name for name, p in names["model"].named_parameters() if p.requires_grad]
    for _ in range(PASSES):
        try:
            exec(bench.backward, names)
        except Exception:  # nothing requires grad
            return []
        missing = [name for name in missing if names["model"].get_parameter(name).grad is None]
        if not missing:
            break
    return missing


def rewritten_by_modes(bench: Bench) -> Statements:
    """Frozen parameters that model.eval() or model.train() writes, as merged adapters do."""
    for line in ("model.eval()", "model.eval(); model.train()"):
        names = bench.fresh()
        frozen = {n: p for n, p in names["model"].named_parameters() if not p.requires_grad}
        before = {name: p.detach().clone() for name, p in frozen.items()}
        exec(line, names)
        found = [name for name, p in frozen.items() if not torch.equal(before[name], p)]
        if found:
            yield Statement(
                severity="mistake",
                subject="written by modes",
                text=f"{line} writes {listed(found)}, which is frozen: adapters are merged into it",
                shows=moves(found[0], stepping=line),
                remedy="unmerge the adapters, and keep the bits of the base elsewhere",
            )
            return
