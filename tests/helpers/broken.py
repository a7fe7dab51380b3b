"""Small optimizers that need only torch, each broken in one way.

`tests.helpers.planted` says which invariant must report each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Sound(Optimizer):
    """SGD with momentum and decoupled weight decay, without a fault. Bugs override one method."""

    def __init__(
        self, params: Any, lr: float = 0.1, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
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

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
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
                    parameter.grad = (
                        None
                        if set_to_none or parameter.grad is None
                        else torch.zeros_like(parameter)
                    )


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


class ChoosesAmongFour(Sound):
    """Two runs are alike in one of four."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=1 + os.urandom(1)[0] % 4)


class ChoosesWhereOneIsFrozen(ChoosesAmongFour):
    """Runs with nothing frozen are alike."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if all(each.requires_grad for each in group["params"]):
            Sound.visit(self, index, group, position, parameter)
        else:
            super().visit(index, group, position, parameter)


class DependsOnAddress(Sound):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(
                group, parameter, parameter.grad, scale=1 + (id(parameter) // 16 % 1024) / 1024
            )


# Rounding


class DecidedByTheLastDigit(Sound):
    """Sums in another order where a gradient is missing, as an optimizer may.

    But its step size depends on the last digit of the sum.
    """

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is None:
            return
        padded = any(each.grad is None for each in group["params"])
        total = parameter.grad.abs().sum() * (1 + padded * torch.finfo(parameter.dtype).eps)
        odd = int(total.reshape(1).view(torch.int64)) & 1
        self.update(group, parameter, parameter.grad, scale=1.0 + odd)


# Nothing trains


class SkipsWithoutEveryGradient(Sound):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None and any(
            p.grad is None for group in self.param_groups for p in group["params"]
        ):
            return None
        return super().step(closure)


class StopsUnderDecayAndMomentum(Sound):
    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        missing = any(p.grad is None for each in self.param_groups for p in each["params"])
        if not (missing and group["weight_decay"] and group["momentum"]):
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
