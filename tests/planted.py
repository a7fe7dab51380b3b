"""Planted bugs: small optimizers and freezing helpers, each broken in one way, and the invariant that must tell.

A bug is easy (nearly any case shows it) or HARD (it takes a certain dtype,
group, nesting, or more than one step).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostproof.approach import Approach, Approaches, OptimizerSubset, Parameters, RequiresGrad, SubsetCleared, SubsetSecondOptimizer


class Sound(Optimizer):
    """SGD with momentum and decoupled weight decay, without a fault. Bugs override one method."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        for index, group in enumerate(self.param_groups):
            for position, parameter in enumerate(group["params"]):
                self.visit(index, group, position, parameter)
        self.after()
        return loss

    def evaluate(self, closure: Callable[[], Any]) -> Any:
        with torch.enable_grad():
            return closure()

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad)

    def update(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        if group["momentum"]:
            state = self.state[parameter]
            if "buffer" not in state:
                state["buffer"] = torch.zeros_like(parameter)
            gradient = state["buffer"].mul_(group["momentum"]).add_(gradient)
        parameter.add_(gradient, alpha=-group["lr"] * scale)

    def after(self) -> None:
        """Called at the end of each step."""


# What is frozen moves


class DecaysEverything(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        parameter.mul_(1 - group["lr"] * 0.01)
        super().visit(index, group, position, parameter)


class NoneAsZeros(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        self.update(group, parameter, gradient)


class DecaysSecondGroup(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if index > 0:
            parameter.mul_(0.99)
        super().visit(index, group, position, parameter)


class ClampsFromThirdStep(Sound):
    def after(self) -> None:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps >= 3:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(0.5)


# A and B train differently


class RateByPosition(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=1 + position)


class RateByCount(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=1 / len(group["params"]))


class StopsAtFirstNone(Sound):
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    break
                self.update(group, parameter, parameter.grad)
        return loss


class RateByPositionInBFloat16(RateByPosition):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        super().visit(index, group, position if parameter.dtype == torch.bfloat16 else 0, parameter)


# A missing gradient is no reason to do anything


class ReadsMissingGradient(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        self.update(group, parameter, parameter.grad.clone())  # type: ignore[union-attr]


class AllocatesGradient(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        super().visit(index, group, position, parameter)


class KeepsRolling(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is None and "buffer" in self.state.get(parameter, {}):
            parameter.add_(self.state[parameter]["buffer"], alpha=-group["lr"])
        super().visit(index, group, position, parameter)


# Flags, modes and groups


class EnablesRequiresGrad(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        parameter.requires_grad_(True)
        super().visit(index, group, position, parameter)


class LeaksGradMode(Sound):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:
            torch.set_grad_enabled(False)
        return loss


class ReordersGroup(Sound):
    def after(self) -> None:
        for group in self.param_groups:
            group["params"].sort(key=lambda parameter: (parameter.grad is None, parameter.numel()))


# Closures


class IgnoresClosure(Sound):
    def evaluate(self, closure: Callable[[], Any]) -> Any:
        return None


class ClosureWithoutGrad(Sound):
    def evaluate(self, closure: Callable[[], Any]) -> Any:
        return closure()


class ReturnsNothing(Sound):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        super().step(closure)


# zero_grad


class ClearsTrainableOnly(Sound):
    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.grad = None if set_to_none or parameter.grad is None else torch.zeros_like(parameter)


class ZeroGradAllocates(Sound):
    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None if set_to_none else torch.zeros_like(parameter)


class ClearsFirstGroup(Sound):
    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None


# Random numbers


class DrawsForFrozen(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        noise = torch.rand(())
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=1 + 0.01 * float(noise))


class SeedsFromTheSystem(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=1 + os.urandom(1)[0] / 256)


class DependsOnAddress(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=1 + (id(parameter) // 16 % 1024) / 1024)


# Nothing trains


class SkipsWithoutEveryGradient(Sound):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None and any(p.grad is None for group in self.param_groups for p in group["params"]):
            return None
        return super().step(closure)


class StopsUnderDecayAndMomentum(Sound):
    def update(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0) -> None:
        if not (group["weight_decay"] and group["momentum"]):
            super().update(group, parameter, gradient, scale)


# State for what never had a gradient


class StateFromTheStart(Sound):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["buffer"] = torch.zeros_like(parameter)


class StateInSecondGroup(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if index > 0:
            self.state[parameter]["visited"] = True
        super().visit(index, group, position, parameter)


# Freezing helpers


@dataclass(frozen=True)
class FreezesWeightsOnly(RequiresGrad):
    """Forgets the biases."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, [parameter for parameter in frozen if parameter.dim() > 1])


@dataclass(frozen=True)
class SetsModuleAttribute(RequiresGrad):
    """`module.requires_grad = False` is an attribute that nobody reads."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        for module in model.modules():
            module.requires_grad = False  # type: ignore[assignment]


@dataclass(frozen=True)
class FreezesTopLevelOnly(RequiresGrad):
    """Loops over the children, and misses what is nested."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        direct = {id(p) for child in model for p in child.parameters(recurse=False)}
        super().freeze(model, [parameter for parameter in frozen if id(parameter) in direct])


@dataclass(frozen=True)
class InputRequiresGrad(RequiresGrad):
    """Makes the batch require grad, as recipes for checkpointing do."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model[0].register_forward_pre_hook(
            lambda module, inputs: tuple(x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs)
        )


@dataclass(frozen=True)
class KeepsGraphAlive(RequiresGrad):
    """Adds a leaf that requires grad to the output, so that an all frozen model still has something to differentiate."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model.register_forward_hook(lambda module, inputs, output: output + torch.zeros((), dtype=output.dtype, requires_grad=True))


@dataclass(frozen=True)
class TurnsGradOn(RequiresGrad):
    """Switches gradients on in the middle of a forward pass."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model[-1].register_forward_pre_hook(lambda module, inputs: torch.set_grad_enabled(True) and None)


@dataclass(frozen=True)
class DetachesFrozen(RequiresGrad):
    """Detaches the output of a frozen layer, though something below it still trains."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        for module in _frozen_modules(model, frozen):
            module.register_forward_hook(lambda module, inputs, output: output.detach())


@dataclass(frozen=True)
class ScalesGradientThroughNorms(RequiresGrad):
    """Doubles the gradient on its way through a frozen normalisation."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        for module in _frozen_modules(model, frozen):
            if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
                module.register_forward_hook(lambda module, inputs, output: output * 2 - output.detach())


@dataclass(frozen=True)
class TrainsFrozenBatchNorm(RequiresGrad):
    """Calls model.train() at each forward pass."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model.register_forward_pre_hook(lambda module, inputs: module.train() and None)


@dataclass(frozen=True)
class CountsBatchesInNested(RequiresGrad):
    """Counts batches in a nested batch norm whatever its mode."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        for path, module in model.named_modules():
            if "." in path and isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.register_forward_hook(lambda module, inputs, output: module.num_batches_tracked.add_(1) and None)


def _frozen_modules(model: nn.Sequential, frozen: Parameters) -> Iterable[nn.Module]:
    ids = set(map(id, frozen))
    return [module for module in model.modules() if (own := list(module.parameters(recurse=False))) and ids.issuperset(map(id, own))]


@dataclass(frozen=True)
class SubsetThatAddsStale(OptimizerSubset):
    """Mixes the gradients that earlier steps left behind into those of what is trained."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        ids = set(map(id, frozen))
        left = {"sum": 0.0}

        def remember(module: nn.Module, inputs: Any) -> None:
            left["sum"] = sum(float(p.grad.to_dense().abs().sum()) for p in frozen if p.grad is not None)

        model.register_forward_pre_hook(remember)
        for parameter in model.parameters():
            if id(parameter) not in ids:
                parameter.register_post_accumulate_grad_hook(lambda p: _scale(p, 1 + left["sum"]))  # type: ignore[no-untyped-call]


def _scale(parameter: Tensor, factor: float) -> None:
    if parameter.grad is not None:
        parameter.grad.mul_(factor)


class StepsOnZeroGrad(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:
        self.step()
        super().zero_grad(set_to_none)


@dataclass(frozen=True)
class SecondOptimizerSteps(SubsetSecondOptimizer):
    def companion(self, frozen: Parameters) -> Optimizer | None:
        return StepsOnZeroGrad(frozen, lr=0.1) if frozen else None


@dataclass(frozen=True)
class SubsetThatClears(SubsetCleared):
    name: str = "B"


@dataclass(frozen=True)
class SubsetThatClamps(OptimizerSubset):
    def clear(self, zero_grads: Iterable[Callable[[], None]], frozen: Parameters) -> None:
        super().clear(zero_grads, frozen)
        for parameter in frozen:
            if parameter.grad is not None and not parameter.grad.is_sparse:
                parameter.grad.clamp_(-0.1, 0.1)


class Planted(NamedTuple):
    """A bug: what breaks, the invariant that must tell, and whether that is hard. Without an optimizer: autograd alone.

    `smallest`: layers and events of the smallest case that shows it.
    """

    invariant: str
    optimizer: type[Optimizer] | None
    hard: bool = False
    smallest: tuple[int, int] = (1, 1)
    a: Approach = RequiresGrad()
    b: Approach = OptimizerSubset()
    cleared: Approach = SubsetCleared()
    second: Approach = SubsetSecondOptimizer()

    @property
    def name(self) -> str:
        ways = (self.a, self.b, self.cleared, self.second)
        broken = [each for each in ways if type(each).__module__ != RequiresGrad.__module__]
        return type(broken[0]).__name__ if broken else self.optimizer.__name__ if self.optimizer else "nothing"

    @property
    def approaches(self) -> Approaches:
        return Approaches(self.a, self.b, self.cleared, self.second)


HARD = True
BUGS = (
    Planted("frozen-weights-unchanged", DecaysEverything),
    Planted("frozen-weights-unchanged", NoneAsZeros),
    Planted("frozen-weights-unchanged", DecaysSecondGroup, HARD),
    Planted("frozen-weights-unchanged", ClampsFromThirdStep, HARD),
    Planted("trainable-updates-match", RateByPosition),
    Planted("trainable-updates-match", RateByCount),
    Planted("trainable-updates-match", StopsAtFirstNone, HARD),
    Planted("trainable-updates-match", RateByPositionInBFloat16, HARD),
    Planted("no-grad-allocated", Sound, a=SetsModuleAttribute()),
    Planted("no-grad-allocated", Sound, a=FreezesWeightsOnly()),
    Planted("no-grad-allocated", None, HARD, a=FreezesTopLevelOnly()),
    Planted("no-graph-below", None, a=SetsModuleAttribute()),
    Planted("no-graph-below", None, a=InputRequiresGrad()),
    Planted("no-graph-below", None, HARD, a=FreezesTopLevelOnly()),
    Planted("no-grad-backward-raises", None, a=KeepsGraphAlive()),
    Planted("no-grad-backward-raises", DecaysEverything),
    Planted("no-grad-backward-raises", None, HARD, a=TurnsGradOn()),
    Planted("gradients-pass-through", None, a=DetachesFrozen()),
    Planted("gradients-pass-through", Sound, HARD, a=ScalesGradientThroughNorms()),
    Planted("gradless-step-is-noop", ReadsMissingGradient),
    Planted("gradless-step-is-noop", AllocatesGradient),
    Planted("gradless-step-is-noop", KeepsRolling, HARD),
    Planted("flags-untouched", EnablesRequiresGrad),
    Planted("flags-untouched", LeaksGradMode, HARD),
    Planted("flags-untouched", ReordersGroup, HARD),
    Planted("closure-is-honoured", IgnoresClosure),
    Planted("closure-is-honoured", ReturnsNothing),
    Planted("closure-is-honoured", ClosureWithoutGrad, HARD),
    Planted("zero-grad-clears", ClearsTrainableOnly),
    Planted("zero-grad-clears", ZeroGradAllocates),
    Planted("zero-grad-clears", ClearsFirstGroup, HARD),
    Planted("repeats-itself", DrawsForFrozen),
    Planted("repeats-itself", SeedsFromTheSystem),
    Planted("repeats-itself", DependsOnAddress, HARD),
    Planted("stale-grads-harmless", Sound, second=SecondOptimizerSteps()),
    Planted("stale-grads-harmless", Sound, HARD, b=SubsetThatAddsStale()),
    Planted("stale-grads-accumulate", Sound, b=SubsetThatClears()),
    Planted("stale-grads-accumulate", None, HARD, b=SubsetThatClamps()),
    Planted("buffers-hold-in-eval", None, a=TrainsFrozenBatchNorm()),
    Planted("buffers-hold-in-eval", None, HARD, a=CountsBatchesInNested()),
    Planted("trainable-moves", SkipsWithoutEveryGradient),
    Planted("trainable-moves", StopsUnderDecayAndMomentum, HARD),
    Planted("no-state-for-frozen", StateFromTheStart),
    Planted("no-state-for-frozen", StateInSecondGroup, HARD),
)
