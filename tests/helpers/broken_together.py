"""Small optimizers that need only torch, in which one parameter changes what another one does.

They do so in A and in B alike. With one group of two parameters that always have gradients, none of
them shows its bug.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.helpers.broken import Sound
from tests.helpers.broken_programs import Heavy


class CountsEachGroup(Sound):
    """Counts a step for each group, and takes smaller steps with time."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if position == 0:
            self.count = getattr(self, "count", 0) + 1
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=self.count**-0.5)


class CachesRateByDtype(Sound):
    """Looks the learning rate up once for each dtype."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        cache: dict[torch.dtype, float] = self.__dict__.setdefault("cache", {})
        rate = cache.setdefault(parameter.dtype, group["lr"])
        super().update({**group, "lr": rate}, parameter, gradient, scale)


class DecaysFromThenOn(Sound):
    """One group that decays makes all later ones decay."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        self.decay = max(getattr(self, "decay", 0.0), group["weight_decay"])
        super().update({**group, "weight_decay": self.decay}, parameter, gradient, scale)


class BuffersByShape(Heavy):
    """Parameters of one shape share their momentum."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        buffers: dict[torch.Size, Tensor] = self.__dict__.setdefault("buffers", {})
        buffer = buffers.setdefault(parameter.shape, torch.zeros_like(parameter))
        parameter.add_(buffer.mul_(0.9).add_(gradient), alpha=-group["lr"])


class CountsWithAnyGradient(Sound):
    """A group counts the steps in which any of its members has a gradient, for all of them."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if position == 0 and any(each.grad is not None for each in group["params"]):
            group["count"] = group.get("count", 0) + 1
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, scale=group["count"] ** -0.5)


class CountOfFirst(Heavy):
    """All members of a group take the number of updates of the first that has a gradient."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            first = next(each for each in group["params"] if each.grad is not None)
            count = self.state[first].get("updates", 0) - (first is not parameter)
            self.update(group, parameter, parameter.grad, scale=1 / (1 + count))


class ScalesFromFifth(Sound):
    """Handles four tensors at once, and the next four with another factor."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            ranked = [each for each in group["params"] if each.grad is not None]
            rank = next(i for i, each in enumerate(ranked) if each is parameter)
            self.update(group, parameter, parameter.grad, scale=1 + rank // 4)
