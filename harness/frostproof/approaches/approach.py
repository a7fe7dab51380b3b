"""The ways to freeze, and what each hands to the optimizer and clears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostproof.spec.case import Case
from frostproof.spec.program import SaveLoad
from frostproof.spec.subject import Subject

Parameters = Sequence[nn.Parameter]
Follows = Literal["nothing", "edit", "rebuild"]


@dataclass(frozen=True)
class Approach:
    """A way to freeze. Subclass it to describe another: the trial knows no more than these methods."""

    name: str
    follows: Follows = "edit"
    """What becomes of the optimizer when a layer is frozen or thawed midway: nothing; its parameter groups are edited, and
    groups that it never had are added, while its state is kept; or it is built anew."""

    late: bool = False
    """Whether it freezes the new model after its optimizer is built, and not before."""

    adds_first: bool = False
    """Whether the optimizer is handed what is thawed while that is still frozen, and not after."""

    def unfit(self, case: Case, subject: Subject) -> str:
        """Why it cannot freeze what this case freezes, or not with this optimizer; empty where it can."""
        return ""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        """Called on the new model with what is frozen, and again with what is frozen midway."""

    def thaw(self, thawed: Parameters) -> None:
        """Called with what is thawed midway."""

    def owns(self, frozen: bool) -> bool:
        """Whether the optimizer is handed a parameter that is frozen, or is not."""
        return not frozen

    def arranged(self, members: Sequence[int]) -> Sequence[int]:
        """A parameter group's members, by position, in the order in which the optimizer receives them."""
        return members

    def options(self, frozen: bool) -> Mapping[str, Any]:
        """Options for parameter groups of their own, for what is frozen and for what is not."""
        return {}

    def companion(self, frozen: Parameters) -> Optimizer | None:
        """A second optimizer, of which nothing is asked but to zero the gradients of what is frozen."""
        return None

    def clear(self, frozen: Parameters) -> None:
        """Called once the optimizer, and its companion, have cleared their gradients."""

    def between_passes(self, frozen: Parameters) -> None:
        """Called between the backward passes of one step, whose gradients add up."""

    def forward(self, model: nn.Sequential, samples: Tensor, frozen: Parameters) -> Tensor:
        """The forward pass."""
        outputs: Tensor = model(samples)
        return outputs

    def backward(self, loss: Tensor, trainable: Parameters) -> None:
        """The backward pass."""
        loss.backward()  # type: ignore[no-untyped-call]

    def begin(self, frozen: Parameters) -> Any:
        """Called before each step; what it returns is handed to `end`."""

    def after_backward(self, frozen: Parameters) -> None:
        """Called after the backward passes of a step, before anything reads the gradients."""

    def end(self, frozen: Parameters, kept: Any) -> None:
        """Called after each step."""


@dataclass(frozen=True)
class AllOwned(Approach):
    """All parameters to the optimizer, whatever is frozen."""

    name: str = "all"
    follows: Follows = "nothing"

    def owns(self, frozen: bool) -> bool:
        return True


@dataclass(frozen=True)
class RequiresGrad(AllOwned):
    """A: set `requires_grad=False` on frozen parameters; all parameters to the optimizer."""

    name: str = "A"

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        for p in frozen:
            p.requires_grad_(False)

    def thaw(self, thawed: Parameters) -> None:
        for p in thawed:
            p.requires_grad_(True)


@dataclass(frozen=True)
class RequiresGradReversed(RequiresGrad):
    """A with every group's parameters in reverse order, which no optimizer may notice but by rounding."""

    name: str = "A-reversed"

    def arranged(self, members: Sequence[int]) -> Sequence[int]:
        return members[::-1]


@dataclass(frozen=True)
class RequiresGradNudged(RequiresGrad):
    """A with each element of each gradient off by up to four units in the last place, as another order of summing may make it."""

    name: str = "A-nudged"
    seed: int = 0

    def backward(self, loss: Tensor, trainable: Parameters) -> None:
        super().backward(loss, trainable)
        # Not the same at each evaluation, as that would only be another loss.
        generator = torch.Generator().manual_seed(hash((self.seed, loss.item())) & 0xFFFF_FFFF)
        for gradient in (p.grad for p in trainable if p.grad is not None and not p.grad.is_sparse):
            units = torch.randint(-1, 2, gradient.shape, generator=generator).to(gradient) * (
                1 + self.seed % 4
            )
            gradient.mul_(1 + units * torch.finfo(gradient.dtype).eps)


@dataclass(frozen=True)
class OptimizerSubset(Approach):
    """B: pass only the trainable parameters to the optimizer; leave requires_grad as it is."""

    name: str = "B"


@dataclass(frozen=True)
class SubsetCleared(OptimizerSubset):
    """B with every gradient of what is frozen cleared before each backward pass."""

    name: str = "B-cleared"

    def clear(self, frozen: Parameters) -> None:
        for p in frozen:
            p.grad = None

    def between_passes(self, frozen: Parameters) -> None:
        for p in frozen:
            p.grad = None


@dataclass(frozen=True)
class SubsetSecondOptimizer(OptimizerSubset):
    """B with a second optimizer that has the frozen parameters and only zeroes their gradients."""

    name: str = "B-second"

    def companion(self, frozen: Parameters) -> Optimizer | None:
        return torch.optim.SGD(frozen, lr=1.0) if frozen else None


@dataclass(frozen=True)
class SubsetRebuilt(OptimizerSubset):
    """B with a new optimizer for each mask, which knows nothing of what the old one had learnt."""

    name: str = "B-rebuilt"
    follows: Follows = "rebuild"


@dataclass(frozen=True)
class GradualUnfreezing(RequiresGrad):
    """A and B together: requires_grad=False on what is frozen, which the optimizer is handed, still frozen, when it is to thaw."""

    name: str = "gradual"
    follows: Follows = "edit"
    adds_first: bool = True

    def owns(self, frozen: bool) -> bool:
        return not frozen


@dataclass(frozen=True)
class Approaches:
    """What a trial runs in lockstep: A and B always, the others where the case draws them or its program calls for them."""

    a: Approach = RequiresGrad()
    b: Approach = OptimizerSubset()
    cleared: Approach = SubsetCleared()
    second: Approach = SubsetSecondOptimizer()
    rebuilt: Approach = SubsetRebuilt()
    gradual: Approach = GradualUnfreezing()

    def of(self, case: Case) -> dict[str, Approach]:
        """Role -> approach. The role `again` is A once more, to see whether it repeats itself; `resumed` and `resumed-b` are A
        and B, and go through every checkpoint; `gradual` is there where something thaws that was frozen from the start."""
        roles = {
            "a": self.a,
            "b": self.b,
            "cleared": self.cleared,
            "second": self.second,
            "rebuilt": self.rebuilt,
            "again": self.a,
        }
        chosen = {
            role: approach for role, approach in roles.items() if role in ("a", "b", *case.extras)
        }
        if not {*case.initially_frozen}.isdisjoint(case.thawed):
            chosen["gradual"] = self.gradual
        return {**chosen, "resumed": self.a, "resumed-b": self.b} if case.has(SaveLoad) else chosen


@dataclass(frozen=True)
class Alone(Approaches):
    """A by itself, which goes through every checkpoint beside itself: enough to see what an optimizer can do."""

    def of(self, case: Case) -> dict[str, Approach]:
        return {
            role: approach
            for role, approach in super().of(case).items()
            if role in ("a", "resumed")
        }
