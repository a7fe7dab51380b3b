"""The ways to freeze, as one step of training goes through them. Simplest first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frostproof.costs.task import Task, split

Groups = list[dict[str, Any]]
Frozen = Collection[str]


@dataclass(frozen=True)
class Way:
    """B, which the others change: only the trainable parameters to the optimizer, requires_grad untouched.

    A model that is handed to a way is its own, with requires_grad on wherever it can be. `frozen` names its parameters.
    """

    name: str = "B: optimizer subset"
    how: str = "only what trains goes to the optimizer"
    owns_all: bool = False

    def unfit(self, task: Task) -> str:
        """Why it cannot freeze this; empty where it can."""
        return ""

    def freeze(self, model: nn.Module, frozen: Frozen) -> None:
        """Called on the model before the first forward pass."""

    def forward(self, model: nn.Module, inputs: tuple[Any, ...], frozen: Frozen) -> Any:
        return model(*inputs)

    def backward(self, loss: Tensor, model: nn.Module, frozen: Frozen) -> None:
        """Leaves the gradients in `.grad`."""
        loss.backward()  # type: ignore[no-untyped-call]

    def after_backward(self, model: nn.Module, frozen: Frozen) -> None:
        """Called before the optimizer steps, and before it is built."""

    def groups(self, model: nn.Module, frozen: Frozen) -> Groups:
        """What the optimizer is built from."""
        return [{"params": list(model.parameters()) if self.owns_all else split(model, frozen)[1]}]


@dataclass(frozen=True)
class RequiresGrad(Way):
    """A."""

    name: str = "A: requires_grad=False"
    how: str = "requires_grad=False on what is frozen, every parameter to the optimizer"
    owns_all: bool = True

    def freeze(self, model: nn.Module, frozen: Frozen) -> None:
        for parameter in split(model, frozen)[0]:
            parameter.requires_grad_(False)


@dataclass(frozen=True)
class Filtered(RequiresGrad):
    name: str = "A, filtered"
    how: str = "requires_grad=False on what is frozen, only the others to the optimizer"
    owns_all: bool = False


@dataclass(frozen=True)
class BackwardInputs(Way):
    name: str = "backward(inputs=...)"
    how: str = "loss.backward(inputs=what trains), and only that to the optimizer"

    def backward(self, loss: Tensor, model: nn.Module, frozen: Frozen) -> None:
        loss.backward(inputs=split(model, frozen)[1])  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Prefix(Way):
    """What is frozen is the beginning of an `nn.Sequential`, and runs by itself."""

    name: str = "no_grad prefix"
    how: str = "the frozen beginning runs under no_grad"
    gradless: bool = True

    def unfit(self, task: Task) -> str:
        if not isinstance(task.model, nn.Sequential):
            return "the model is no nn.Sequential, so that no prefix of it can run by itself"
        at = _cut(task.model, task.frozen)
        if not at:
            return "the first layer with parameters trains"
        behind = [name for name in task.frozen if int(name.partition(".")[0]) >= at]
        return f"{min(behind)} is frozen behind a layer that trains" if behind else ""

    def forward(self, model: nn.Module, inputs: tuple[Any, ...], frozen: Frozen) -> Any:
        assert isinstance(model, nn.Sequential)
        at = _cut(model, frozen)
        with torch.set_grad_enabled(not self.gradless):
            features = model[:at](*inputs)
        return model[at:](features.detach())


def _cut(model: nn.Sequential, frozen: Frozen) -> int:
    """The number of the first child in which something trains."""
    return next((i for i, child in enumerate(model) if any(f"{i}.{name}" not in frozen for name, _ in child.named_parameters())), 0)


@dataclass(frozen=True)
class DropsGradients(Way):
    name: str = "grad = None"
    how: str = "what is frozen gets .grad = None before each step"
    owns_all: bool = True

    def after_backward(self, model: nn.Module, frozen: Frozen) -> None:
        for parameter in split(model, frozen)[0]:
            parameter.grad = None


@dataclass(frozen=True)
class NoRate(Way):
    name: str = "lr=0"
    how: str = "a parameter group with lr=0 for what is frozen"

    def groups(self, model: nn.Module, frozen: Frozen) -> Groups:
        held, trained = split(model, frozen)
        return [{"params": trained}, {"params": held, "lr": 0.0}]


@dataclass(frozen=True)
class ZeroingHook(Way):
    name: str = "zeroing hook"
    how: str = "a hook on each frozen parameter turns its gradient into zeros"
    owns_all: bool = True

    def freeze(self, model: nn.Module, frozen: Frozen) -> None:
        for parameter in split(model, frozen)[0]:
            if parameter.requires_grad:
                parameter.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Functional(Way):
    """The graph is the one that `torch.func.grad` builds, which itself allows no hooks on what it saves."""

    name: str = "torch.func"
    how: str = "functional_call, and gradients of what trains alone"

    def forward(self, model: nn.Module, inputs: tuple[Any, ...], frozen: Frozen) -> Any:
        values = {name: p.detach() if name in frozen else p for name, p in model.named_parameters()}
        return torch.func.functional_call(model, values, inputs)

    def backward(self, loss: Tensor, model: nn.Module, frozen: Frozen) -> None:
        trained = [parameter for parameter in split(model, frozen)[1] if parameter.requires_grad]
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained, allow_unused=True), strict=True):
            parameter.grad = gradient


@dataclass(frozen=True)
class Buffers(Way):
    name: str = "buffers"
    how: str = "what is frozen becomes a buffer"

    def unfit(self, task: Task) -> str:
        for path, module in task.model.named_modules():
            if isinstance(module, nn.RNNBase) and any(name.rpartition(".")[0] == path for name in task.frozen):
                return f"{path or 'the model'} is an {type(module).__name__}, which keeps a list of its weights beside"
        return ""

    def freeze(self, model: nn.Module, frozen: Frozen) -> None:
        ids = {id(parameter) for parameter in split(model, frozen)[0]}
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if id(parameter) in ids:
                    delattr(module, name)
                    module.register_buffer(name, parameter.detach())


A = RequiresGrad()
B = Way()
WAYS: tuple[Way, ...] = (
    A,
    Filtered(),
    B,
    BackwardInputs(),
    Prefix(),
    Prefix("detached prefix", "the output of the frozen beginning is detached", gradless=False),
    DropsGradients(),
    NoRate(),
    ZeroingHook(),
    Way("restored weights", "what is frozen is copied before each step, and back after it", owns_all=True),
    Functional(),
    Buffers(),
)
"""In the order in which one would rather use them, where they cost the same."""
