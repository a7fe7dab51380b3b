"""Statements about one pass: buffers, random numbers, and parameters without a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from frostproof.applications.audit.bench import Bench, code
from frostproof.applications.audit.statements import (
    Statement,
    Statements,
    is_matched,
    listed,
    moves,
)


def changing_buffers(bench: Bench) -> Statements:
    """Buffers of frozen modules that the forward pass rewrites."""
    found: dict[str, list[str]] = {}
    names = bench.fresh()
    before = {name: b.clone() for name, b in names["model"].named_buffers()}
    try:
        names["train"]()
    except Exception:  # what cannot be tried is not stated
        return
    after = dict(names["model"].named_buffers())
    for name, old in before.items():
        path = name.rpartition(".")[0]
        module = names["model"].get_submodule(path)
        own = {f"{path}.{each}".lstrip("."): p for each, p in module.named_parameters()}
        frozen = all(not p.requires_grad or is_matched(bench, each) for each, p in own.items())
        if own and frozen and not torch.equal(old, after[name]):
            found.setdefault(type(module).__name__, []).append(name)
    for kind, buffers in found.items():
        paths = list(dict.fromkeys(each.rpartition(".")[0] for each in buffers))
        first = code(buffers[0])
        remedy = f"{code(paths[0])}.eval()  # after each model.train()"
        if len(paths) > 1:
            remedy = (
                f"for each in {paths}: model.get_submodule(each).eval()  # after each model.train()"
            )
        yield Statement(
            severity="mistake",
            subject="buffers change",
            text=f"{listed(paths)}: {kind} in train mode rewrites its buffers, which frozen "
            "parameters do not stop",
            shows=(f"before = {first}.clone(); train()", f"not torch.equal(before, {first})"),
            remedy=remedy,
        )


def random_numbers(bench: Bench) -> Statements:
    """Modules that draw random numbers in the forward pass."""
    model, drawing = bench.model, dict[str, str]()
    entered: list[tuple[Tensor, int]] = []
    hooks = []

    def enter(*_: Any) -> None:
        entered.append((torch.get_rng_state(), len(drawing)))

    for path, module in model.named_modules():

        def leave(m: nn.Module, *_: Any, path: str = path) -> None:
            before, known = entered.pop()
            if not torch.equal(before, torch.get_rng_state()) and len(drawing) == known:
                drawing[path] = type(m).__name__

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        exec(bench.call, bench.names)
    finally:
        for hook in hooks:
            hook.remove()
    if drawing:
        yield Statement(
            severity="note",
            subject="random numbers",
            text="each forward pass draws some, also where all around is frozen: in "
            f"{listed([*drawing])} ({listed(list(dict.fromkeys(drawing.values())))})",
            shows=(
                f"state = torch.get_rng_state(); {bench.call}",
                "not torch.equal(state, torch.get_rng_state())",
            ),
            remedy=f"{code(next(iter(drawing)))}.eval()  # and so on, after each model.train()",
        )


def without_gradient(bench: Bench) -> Statements:
    """Trainable parameters that get no gradient, as the mask makes it or in any case."""
    frozen = frozenset(i for i, p in enumerate(bench.model.parameters()) if not p.requires_grad)
    reached, always = bench.network.reached(frozen, False), bench.network.reached((), False)
    names = [each.name for each in bench.network.weights]
    missing = [i for i in range(len(names)) if i not in reached and i not in frozen]
    for cut in (True, False):
        found = [names[i] for i in missing if (i in always) == cut]
        if not found:
            continue
        first = code(found[0])
        text = f"{listed(found)}: the forward pass does not use it, so that it never trains"
        remedy = "leave it out of the model; if adapters are merged into the base, unmerge them"
        if cut:
            text = (
                f"{listed(found)}: no gradient comes here once the rest is frozen, because the "
                "input of a reentrant checkpoint does not require grad"
            )
            remedy = "checkpoint(..., use_reentrant=False)  # or x.requires_grad_()"
        yield Statement(
            severity="mistake",
            subject="cut off" if cut else "no gradient",
            text=text,
            shows=("train()", f"{first}.requires_grad and {first}.grad is None"),
            remedy=remedy,
        )


def rewritten_by_modes(bench: Bench) -> Statements:
    """Frozen parameters that model.eval() or model.train() writes, as merged adapters do."""
    for line in ("model.eval()", "model.eval(); model.train()"):
        names = bench.fresh()
        frozen = {n: p for n, p in names["model"].named_parameters() if not p.requires_grad}
        before = {name: p.detach().clone() for name, p in frozen.items()}
        exec(line, names)
        found = [name for name, p in frozen.items() if not torch.equal(before[name], p)]
        if found:
            lines = moves(found[0])
            yield Statement(
                severity="mistake",
                subject="written by modes",
                text=f"{line} writes {listed(found)}, which is frozen: adapters are merged into it",
                shows=(lines[0].replace("train()", line), lines[1]),
                remedy="unmerge the adapters, and keep the bits of the base elsewhere",
            )
            return
