"""The ways to freeze, as one step of training of any model goes through them. Simplest first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frostproof.applications.costs.task import CostTask, split_parameters
from frostproof.approaches.approach import Approach, OptimizerSubset, RequiresGrad
from frostproof.approaches.others import (
    BackwardInputs,
    Buffers,
    DetachedPrefix,
    GradientsDropped,
    NoGradPrefix,
    WeightsRestored,
    ZeroingHook,
    ZeroRate,
    untrained,
)

ParamGroups = list[dict[str, Any]]
FrozenNames = Collection[str]


@dataclass(frozen=True)
class ModelWay:
    """An approach, applied to a model of any kind.

    A model that is handed to a way is its own, with requires_grad on wherever it can be. `frozen` names its parameters. `owns_all`:
    whether the optimizer gets what is frozen, too.
    """

    name: str
    how: str
    approach: Approach
    owns_all: bool = True

    def unfit(self, task: CostTask) -> str:
        """Why it cannot freeze this; empty where it can."""
        return ""

    def freeze(self, model: nn.Module, frozen: FrozenNames) -> None:
        """Called on the model before the first forward pass."""
        held = [
            parameter for parameter in split_parameters(model, frozen)[0] if parameter.requires_grad
        ]
        self.approach.freeze(model, held)  # type: ignore[arg-type]  # none of these looks for a Sequential

    def forward(self, model: nn.Module, inputs: tuple[Any, ...], frozen: FrozenNames) -> Any:
        return model(*inputs)

    def backward(self, loss: Tensor, model: nn.Module, frozen: FrozenNames) -> None:
        """Leaves the gradients in `.grad`."""
        self.approach.backward(loss, split_parameters(model, frozen)[1])

    def after_backward(self, model: nn.Module, frozen: FrozenNames) -> None:
        """Called before the optimizer steps, and before it is built."""
        self.approach.after_backward(split_parameters(model, frozen)[0])

    def groups(self, model: nn.Module, frozen: FrozenNames) -> ParamGroups:
        """What the optimizer is built from."""
        held, trained = split_parameters(model, frozen)
        if not self.owns_all:
            return [{"params": trained}]
        options = self.approach.options(True)
        return (
            [{"params": trained}, {"params": held, **options}]
            if options
            else [{"params": list(model.parameters())}]
        )


@dataclass(frozen=True)
class PrefixModelWay(ModelWay):
    """What is frozen is the beginning of an `nn.Sequential`, and runs by itself."""

    def unfit(self, task: CostTask) -> str:
        if not isinstance(task.model, nn.Sequential):
            return "the model is no nn.Sequential, so that no prefix of it can run by itself"
        held, trained = split_parameters(task.model, task.frozen)
        at = untrained(task.model, held) if trained else 0
        if not at:
            return "the first layer with parameters trains"
        behind = [name for name in task.frozen if int(name.partition(".")[0]) >= at]
        return f"{min(behind)} is frozen behind a layer that trains" if behind else ""

    def forward(self, model: nn.Module, inputs: tuple[Any, ...], frozen: FrozenNames) -> Any:
        assert isinstance(model, nn.Sequential)
        (samples,) = inputs
        return self.approach.forward(model, samples, split_parameters(model, frozen)[0])


@dataclass(frozen=True)
class FunctionalModelWay(ModelWay):
    """The graph is the one that `torch.func.grad` builds, which itself allows no hooks on what it saves."""

    def forward(self, model: nn.Module, inputs: tuple[Any, ...], frozen: FrozenNames) -> Any:
        values = {name: p.detach() if name in frozen else p for name, p in model.named_parameters()}
        return torch.func.functional_call(model, values, inputs)

    def backward(self, loss: Tensor, model: nn.Module, frozen: FrozenNames) -> None:
        trained = [
            parameter for parameter in split_parameters(model, frozen)[1] if parameter.requires_grad
        ]
        for parameter, gradient in zip(
            trained, torch.autograd.grad(loss, trained, allow_unused=True), strict=True
        ):
            parameter.grad = gradient


@dataclass(frozen=True)
class BufferModelWay(ModelWay):
    """What is frozen becomes a buffer of its module."""

    def unfit(self, task: CostTask) -> str:
        for path, module in task.model.named_modules():
            if isinstance(module, nn.RNNBase) and any(
                name.rpartition(".")[0] == path for name in task.frozen
            ):
                return f"{path or 'the model'} is an {type(module).__name__}, which keeps a list of its weights beside"
        return ""


_SUBSET = OptimizerSubset()

A = ModelWay(
    "A: requires_grad=False",
    "requires_grad=False on what is frozen, every parameter to the optimizer",
    RequiresGrad(),
)
B = ModelWay(
    "B: optimizer subset", "only what trains goes to the optimizer", _SUBSET, owns_all=False
)
MODEL_WAYS: tuple[ModelWay, ...] = (
    A,
    ModelWay(
        "A, filtered",
        "requires_grad=False on what is frozen, only the others to the optimizer",
        RequiresGrad(),
        owns_all=False,
    ),
    B,
    ModelWay(
        "backward(inputs=...)",
        "loss.backward(inputs=what trains), and only that to the optimizer",
        BackwardInputs(),
        owns_all=False,
    ),
    PrefixModelWay(
        "no_grad prefix", "the frozen beginning runs under no_grad", NoGradPrefix(), owns_all=False
    ),
    PrefixModelWay(
        "detached prefix",
        "the output of the frozen beginning is detached",
        DetachedPrefix(),
        owns_all=False,
    ),
    ModelWay(
        "grad = None", "what is frozen gets .grad = None before each step", GradientsDropped()
    ),
    ModelWay("lr=0", "a parameter group with lr=0 for what is frozen", ZeroRate()),
    ModelWay(
        "zeroing hook",
        "a hook on each frozen parameter turns its gradient into zeros",
        ZeroingHook(),
    ),
    ModelWay(
        "restored weights",
        "what is frozen is copied before each step, and back after it",
        WeightsRestored(),
    ),
    FunctionalModelWay(
        "torch.func", "functional_call, and gradients of what trains alone", _SUBSET, owns_all=False
    ),
    BufferModelWay("buffers", "what is frozen becomes a buffer", Buffers(), owns_all=False),
)
"""In the order in which one would rather use them, where they cost the same."""
