"""Helpers that freeze: correct ones, and wrong ones as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from frostproof.approaches.approach import RequiresGrad

Names = Sequence[str]


def _named(model: nn.Module, names: Names) -> list[nn.Parameter]:
    return [model.get_parameter(name) for name in names]


# Correct


def freeze(model: nn.Module, names: Names) -> None:
    for p in _named(model, names):
        p.requires_grad_(False)
        p.grad = None


def thaw(model: nn.Module, names: Names) -> None:
    for p in _named(model, names):
        p.requires_grad_(True)


class AddsGroups:
    """The optimizer gets the trainable parameters, and a group for those that thaw later."""

    owned = "trainable"

    def freeze(self, model: nn.Module, names: Names) -> None:
        freeze(model, names)

    def thaw(self, model: nn.Module, names: Names, optimizer: Any) -> None:
        thaw(model, names)
        if optimizer is None:
            return
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        new = [p for p in _named(model, names) if id(p) not in known]
        if new:
            options = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
            optimizer.add_param_group({**options, "params": new})


class SwitchesNorms:
    """It also puts frozen norms into eval mode, so that their statistics stay."""

    def freeze(self, model: nn.Module, names: Names) -> None:
        freeze(model, names)
        self._switch(model)

    def thaw(self, model: nn.Module, names: Names) -> None:
        thaw(model, names)
        self._switch(model)

    def _switch(self, model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:
                module.train(any(p.requires_grad for p in module.parameters()))


class Mine(RequiresGrad):
    """An approach of its own."""


# Wrong


def freeze_modules(model: nn.Module, names: Names) -> None:
    """Sets an attribute of modules, which parameters do not look at."""
    for name in names:
        module: Any = model.get_submodule(name.rpartition(".")[0])
        module.requires_grad = False


class ThawsAll:
    def freeze(self, model: nn.Module, names: Names) -> None:
        freeze(model, names)

    def thaw(self, model: nn.Module, names: Names) -> None:
        model.requires_grad_(True)


def freeze_and_leave(model: nn.Module, names: Names) -> None:
    """Leaves gradients, which decay and momentum then follow."""
    for p in _named(model, names):
        p.requires_grad_(False)


class AddsTwice(AddsGroups):
    """Adds a group for whatever thaws, known or not."""

    def thaw(self, model: nn.Module, names: Names, optimizer: Any) -> None:
        thaw(model, names)
        if optimizer is not None:
            options = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
            optimizer.add_param_group({**options, "params": _named(model, names)})


class AddsWithOtherSettings(AddsGroups):
    """Adds a group with a learning rate that nobody asked for."""

    def thaw(self, model: nn.Module, names: Names, optimizer: Any) -> None:
        super().thaw(model, names, optimizer)
        if optimizer is not None and len(optimizer.param_groups) > 1:
            optimizer.param_groups[-1]["lr"] = optimizer.param_groups[0]["lr"] * 3


class LosesDecay(AddsGroups):
    """Adds a group without weight decay."""

    def thaw(self, model: nn.Module, names: Names, optimizer: Any) -> None:
        super().thaw(model, names, optimizer)
        if optimizer is not None and len(optimizer.param_groups) > 1:
            optimizer.param_groups[-1]["weight_decay"] = 0.0


def freeze_without_biases_of_norms(model: nn.Module, names: Names) -> None:
    def is_lost(name: str) -> bool:
        path, _, last = name.rpartition(".")
        return last == "bias" and "Norm" in type(model.get_submodule(path)).__name__

    freeze(model, [name for name in names if not is_lost(name)])


class FlipsAfterFilter:
    """The optimizer was built with what trained at first, and gets nothing of what thaws."""

    owned = "trainable"

    def freeze(self, model: nn.Module, names: Names) -> None:
        freeze(model, names)

    def thaw(self, model: nn.Module, names: Names, optimizer: Any) -> None:
        thaw(model, names)


def freeze_whole_modules(model: nn.Module, names: Names) -> None:
    """Freezes the module of each parameter, and so more than it was asked to."""
    for name in names:
        module = model.get_submodule(name.rpartition(".")[0])
        freeze(model, [n for n, p in model.named_parameters() if p in {*module.parameters()}])


class HooksForEver:
    """Zeroes gradients in hooks that stay when the parameters thaw."""

    def freeze(self, model: nn.Module, names: Names) -> None:
        for p in _named(model, names):
            p.register_hook(_zeros)  # type: ignore[no-untyped-call]

    def thaw(self, model: nn.Module, names: Names) -> None:
        """Nothing removes the hooks."""


def _zeros(gradient: Tensor) -> Tensor:
    return torch.zeros_like(gradient)


CORRECT = ("freeze", "AddsGroups", "SwitchesNorms", "Mine")
WRONG = (
    "freeze_modules",
    "ThawsAll",
    "freeze_and_leave",
    "AddsTwice",
    "AddsWithOtherSettings",
    "LosesDecay",
    "freeze_without_biases_of_norms",
    "FlipsAfterFilter",
    "freeze_whole_modules",
    "HooksForEver",
)


# With another signature


def freeze_one(model: nn.Module) -> None: ...


def freeze_four(model: nn.Module, names: Names, optimizer: Any, extra: Any) -> None: ...


class NotAWay: ...


class NeedsArguments:
    def __init__(self, rate: float) -> None: ...

    def freeze(self, model: nn.Module, names: Iterable[str]) -> None: ...
