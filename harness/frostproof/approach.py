"""The ways to freeze, and what each hands to the optimizer and clears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

Parameters = Sequence[nn.Parameter]


@dataclass(frozen=True)
class Approach:
    """A way to freeze. Subclass it to describe another: the trial knows no more than these methods."""

    name: str

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        """Called once, on the new model."""

    def owns(self, frozen: bool) -> bool:
        """Whether the optimizer is handed a parameter that is frozen, or is not."""
        return not frozen

    def arranged(self, members: Parameters) -> Parameters:
        """A parameter group's members in the order in which the optimizer receives them."""
        return members

    def companion(self, frozen: Parameters) -> Optimizer | None:
        """A second optimizer, built once, of which nothing is asked but to zero its gradients."""
        return None

    def clear(self, optimizers: Sequence[Optimizer], frozen: Parameters, set_to_none: bool) -> None:
        """Called before each backward pass with the optimizer (where it owns anything) and its companion."""
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)


@dataclass(frozen=True)
class RequiresGrad(Approach):
    """A: `requires_grad=False` on what is frozen, all parameters to the optimizer."""

    name: str = "A"

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        for parameter in frozen:
            parameter.requires_grad_(False)

    def owns(self, frozen: bool) -> bool:
        return True


@dataclass(frozen=True)
class RequiresGradReversed(RequiresGrad):
    """A with every group's parameters in reverse order, which no optimizer may notice but by rounding."""

    name: str = "A-reversed"

    def arranged(self, members: Parameters) -> Parameters:
        return members[::-1]


@dataclass(frozen=True)
class OptimizerSubset(Approach):
    """B: only the trainable parameters to the optimizer, requires_grad untouched."""

    name: str = "B"


@dataclass(frozen=True)
class SubsetCleared(OptimizerSubset):
    """B with every gradient of the model cleared each step."""

    name: str = "B-cleared"

    def clear(self, optimizers: Sequence[Optimizer], frozen: Parameters, set_to_none: bool) -> None:
        super().clear(optimizers, frozen, set_to_none)
        for parameter in frozen:
            parameter.grad = None


@dataclass(frozen=True)
class SubsetSecondOptimizer(OptimizerSubset):
    """B with a second optimizer that owns what is frozen and is only asked to zero it."""

    name: str = "B-second"

    def companion(self, frozen: Parameters) -> Optimizer | None:
        return torch.optim.SGD(frozen, lr=1.0) if frozen else None


@dataclass(frozen=True)
class Approaches:
    """What a trial runs in lockstep: A and B always, the others where the case draws them."""

    a: Approach = RequiresGrad()
    b: Approach = OptimizerSubset()
    cleared: Approach = SubsetCleared()
    second: Approach = SubsetSecondOptimizer()

    def of(self, extras: Sequence[str]) -> dict[str, Approach]:
        """Role -> approach. The role `again` is A once more, to see whether it repeats itself."""
        roles = {"a": self.a, "b": self.b, "cleared": self.cleared, "second": self.second, "again": self.a}
        return {role: approach for role, approach in roles.items() if role in ("a", "b", *extras)}
