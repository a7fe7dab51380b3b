"""The ways to freeze, applied to one training step of a model of any kind, the simplest first."""

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

CALLS_ITSELF = (
    "this way calls the model itself, and cannot with a dict of inputs, or with --training-step"
)

ParamGroups = list[dict[str, Any]]
Names = Collection[str]


@dataclass(frozen=True)
class ModelWay:
    """An approach, applied to any model.

    The methods may change the model that they are given. `frozen` names its frozen parameters.
    """

    name: str
    how: str
    approach: Approach
    owns_all: bool = True
    """Whether the optimizer gets the frozen parameters too."""

    def unfit(self, task: CostTask) -> str:
        """Why this way cannot freeze the task's parameters, or "" if it can."""
        return ""

    def freeze(self, model: nn.Module, frozen: Names) -> None:
        """Called once, before the first forward pass."""
        parameters = [p for p in split_parameters(model, frozen)[0] if p.requires_grad]
        # None of these approaches needs the model to be a Sequential.
        self.approach.freeze(model, parameters)  # type: ignore[arg-type]

    def forward(self, model: nn.Module, task: CostTask) -> Any:
        return task.outputs(model)

    def backward(self, loss: Tensor, model: nn.Module, frozen: Names) -> None:
        """Leave the gradients in `.grad`."""
        self.approach.backward(loss, split_parameters(model, frozen)[1])

    def after_backward(self, model: nn.Module, frozen: Names) -> None:
        """Called before the optimizer is built and steps."""
        self.approach.after_backward(split_parameters(model, frozen)[0])

    def groups(self, model: nn.Module, frozen: Names) -> ParamGroups:
        """The parameter groups from which the optimizer is built."""
        of_frozen, trainable = split_parameters(model, frozen)
        if not self.owns_all:
            return [{"params": trainable}]
        options = self.approach.options(True)
        if options:
            return [{"params": trainable}, {"params": of_frozen, **options}]
        return [{"params": list(model.parameters())}]


@dataclass(frozen=True)
class PrefixModelWay(ModelWay):
    """Freezes the first layers of an `nn.Sequential`, which run separately."""

    def unfit(self, task: CostTask) -> str:
        if task.step is not None:
            return CALLS_ITSELF
        if not isinstance(task.model, nn.Sequential):
            return "the model is not an nn.Sequential, so its first layers cannot run separately"
        frozen, trainable = split_parameters(task.model, task.frozen)
        length = untrained(task.model, frozen) if trainable else 0
        if not length:
            return "the first layer with parameters trains"
        behind = {id(p) for layer in [*task.model][length:] for p in layer.parameters()}
        named = task.model.named_parameters(remove_duplicate=False)
        late = [name for name, p in named if name in task.frozen and id(p) in behind]
        return f"{late[0]} is frozen behind a layer that trains" if late else ""

    def forward(self, model: nn.Module, task: CostTask) -> Any:
        assert isinstance(model, nn.Sequential)
        (samples,) = task.inputs
        return self.approach.forward(model, samples, split_parameters(model, task.frozen)[0])


@dataclass(frozen=True)
class FunctionalModelWay(ModelWay):
    """Builds the same graph as `torch.func.grad`, which allows no hooks on saved tensors."""

    def unfit(self, task: CostTask) -> str:
        return CALLS_ITSELF if task.step is not None else ""

    def forward(self, model: nn.Module, task: CostTask) -> Any:
        named = model.named_parameters()
        values = {name: p.detach() if name in task.frozen else p for name, p in named}
        return torch.func.functional_call(model, values, task.inputs)

    def backward(self, loss: Tensor, model: nn.Module, frozen: Names) -> None:
        trainable = [p for p in split_parameters(model, frozen)[1] if p.requires_grad]
        gradients = torch.autograd.grad(loss, trainable, allow_unused=True)
        for parameter, gradient in zip(trainable, gradients, strict=True):
            parameter.grad = gradient


@dataclass(frozen=True)
class BufferModelWay(ModelWay):
    """Turns frozen parameters into buffers of their modules."""

    def unfit(self, task: CostTask) -> str:
        owners = {name.rpartition(".")[0] for name in task.frozen}
        for path, module in task.model.named_modules():
            if isinstance(module, nn.RNNBase) and path in owners:
                kind = type(module).__name__
                return f"{path or 'the model'} is an {kind}, which keeps a list of its weights"
        return ""


_SUBSET = OptimizerSubset()

A = ModelWay(
    "A: requires_grad=False",
    "requires_grad=False on frozen parameters, every parameter to the optimizer",
    RequiresGrad(),
)
B = ModelWay(
    "B: optimizer subset", "only trainable parameters to the optimizer", _SUBSET, owns_all=False
)
MODEL_WAYS: tuple[ModelWay, ...] = (
    A,
    ModelWay(
        "A, filtered",
        "requires_grad=False on frozen parameters, only the others to the optimizer",
        RequiresGrad(),
        owns_all=False,
    ),
    B,
    ModelWay(
        "backward(inputs=...)",
        "loss.backward(inputs=trainable), and only those to the optimizer",
        BackwardInputs(),
        owns_all=False,
    ),
    PrefixModelWay(
        "no_grad prefix",
        "the frozen first layers run under no_grad",
        NoGradPrefix(),
        owns_all=False,
    ),
    PrefixModelWay(
        "detached prefix",
        "the output of the frozen first layers is detached",
        DetachedPrefix(),
        owns_all=False,
    ),
    ModelWay(
        "grad = None", "frozen parameters get .grad = None before each step", GradientsDropped()
    ),
    ModelWay("lr=0", "a parameter group with lr=0 for frozen parameters", ZeroRate()),
    ModelWay(
        "zeroing hook",
        "a hook on each frozen parameter turns its gradient into zeros",
        ZeroingHook(),
    ),
    ModelWay(
        "restored weights",
        "frozen parameters are copied before each step, and back after it",
        WeightsRestored(),
    ),
    FunctionalModelWay(
        "torch.func",
        "functional_call, and gradients of trainable parameters alone",
        _SUBSET,
        owns_all=False,
    ),
    BufferModelWay("buffers", "frozen parameters become buffers", Buffers(), owns_all=False),
)
"""In order of preference among ways that cost the same."""
