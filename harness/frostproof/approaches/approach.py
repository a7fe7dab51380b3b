"""The ways to freeze, and what each hands to the optimizer and clears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostproof.spec.case import Case, Extra, Role
from frostproof.spec.program import AddFrozen, SaveLoad
from frostproof.spec.subject import AUTOGRAD, Subject

Parameters = Sequence[nn.Parameter]
Follows = Literal["nothing", "edit", "rebuild", "itself"]


@dataclass(frozen=True)
class Approach:
    """A way to freeze. Subclass it to describe another: a trial knows nothing but these methods.

    A script prints the methods that a subclass overrides, so their code must be plain torch.
    """

    name: str
    follows: Follows = "edit"
    """How the optimizer follows a change of the mask. "nothing": it stays as it is. "edit": its
    parameter groups are edited, new groups are added, and its state is kept. "rebuild": a new
    optimizer is constructed."""

    late: bool = False
    """Whether it freezes the new model after the optimizer is built, and not before."""

    adds_first: bool = False
    """Whether the optimizer receives thawed parameters while they are still frozen."""

    alone: bool = False
    """Whether each parameter has an optimizer of its own."""

    eager: bool = False
    """Whether its model and its step are not compiled where the setting compiles them."""

    sees_to_gradients: bool = False
    """Whether clearing the gradients of what it freezes is its task."""

    own_settings: bool = False
    """Whether it means to give what thaws other settings in the optimizer than the rest has."""

    def unfit(self, case: Case, subject: Subject) -> str:
        """Why it cannot freeze the parameters of this case, or not with this optimizer; or ""."""
        return ""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        """Called on the new model, and again with the parameters that an event freezes."""

    def thaw(self, thawed: Parameters) -> None:
        """Called with the parameters that an event thaws."""

    def owns(self, frozen: bool) -> bool:
        """Whether the optimizer receives parameters that are frozen, or that are not."""
        return not frozen

    def arranged(self, members: Sequence[int]) -> Sequence[int]:
        """A parameter group's members, by position, in the order in which it receives them."""
        return members

    def options(self, frozen: bool) -> Mapping[str, Any]:
        """Options of a parameter group of their own, for frozen and for other parameters."""
        return {}

    def companion(self, frozen: Parameters) -> Optimizer | None:
        """A second optimizer, which only zeroes the gradients of frozen parameters."""
        return None

    def clear(self, frozen: Parameters) -> None:
        """Called after the optimizer, and its companion, have cleared their gradients."""

    def between_passes(self, frozen: Parameters) -> None:
        """Called between the backward passes of one step, whose gradients add up."""

    def forward(self, model: nn.Sequential, samples: Tensor, frozen: Parameters) -> Tensor:
        """The forward pass: samples and outputs are (batch, ...)."""
        outputs: Tensor = model(samples)
        return outputs

    def backward(self, loss: Tensor, trainable: Parameters) -> None:
        """The backward pass."""
        loss.backward()  # type: ignore[no-untyped-call]

    def begin(self, frozen: Parameters) -> Any:
        """Called before each step; `end` receives what it returns."""

    def after_backward(self, frozen: Parameters) -> None:
        """Called after the backward passes of a step, before anything reads the gradients."""

    def end(self, frozen: Parameters, kept: Any) -> None:
        """Called after each step. `kept`: what `begin` returned."""


@dataclass(frozen=True)
class AllOwned(Approach):
    """All parameters to the optimizer, frozen or not."""

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
class RequiresGradAlone(RequiresGrad):
    """A with an optimizer of its own for each parameter."""

    name: str = "A-alone"
    alone: bool = True


@dataclass(frozen=True)
class RequiresGradEager(RequiresGrad):
    """A, and nothing is compiled."""

    name: str = "A-eager"
    eager: bool = True


@dataclass(frozen=True)
class RequiresGradReversed(RequiresGrad):
    """A with every group's parameters in reverse order, which may only change rounding."""

    name: str = "A-reversed"

    def arranged(self, members: Sequence[int]) -> Sequence[int]:
        return members[::-1]


@dataclass(frozen=True)
class RequiresGradNudged(RequiresGrad):
    """A with gradients that differ by up to four units in the last place."""

    name: str = "A-nudged"
    seed: int = 0
    unit: float | None = None
    """What such a unit is, relative to a value; by default that of the gradient's dtype."""

    def backward(self, loss: Tensor, trainable: Parameters) -> None:
        super().backward(loss, trainable)
        # Not the same at each evaluation, as that would only be another loss.
        generator = torch.Generator().manual_seed(hash((self.seed, loss.item())) & 0xFFFF_FFFF)
        gradients = [p.grad for p in trainable if p.grad is not None and not p.grad.is_sparse]
        # Of a DTensor each rank changes its shard.
        for gradient in (getattr(each, "to_local", each.detach)() for each in gradients):
            units = torch.randint(-1, 2, gradient.shape, generator=generator).to(gradient) * (
                1 + self.seed % 4
            )
            gradient.mul_(1 + units * (self.unit or torch.finfo(gradient.dtype).eps))


@dataclass(frozen=True)
class OptimizerSubset(Approach):
    """B: pass only the trainable parameters to the optimizer; leave requires_grad as it is."""

    name: str = "B"


@dataclass(frozen=True)
class SubsetCleared(OptimizerSubset):
    """B with the gradients of frozen parameters cleared before each backward pass."""

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
    """B with a new optimizer for each mask, which starts without the state of the old one."""

    name: str = "B-rebuilt"
    follows: Follows = "rebuild"


@dataclass(frozen=True)
class GradualUnfreezing(RequiresGrad):
    """requires_grad=False on frozen parameters, which the optimizer gets before they are thawed."""

    name: str = "gradual"
    follows: Follows = "edit"
    adds_first: bool = True

    def owns(self, frozen: bool) -> bool:
        return not frozen


@dataclass(frozen=True)
class Approaches:
    """The approaches that a trial runs in lockstep.

    A and B always run; the others where the case draws them, or where its program calls for them.
    """

    a: Approach = RequiresGrad()
    b: Approach = OptimizerSubset()
    cleared: Approach = SubsetCleared()
    second: Approach = SubsetSecondOptimizer()
    rebuilt: Approach = SubsetRebuilt()
    gradual: Approach = GradualUnfreezing()
    alone: Approach = RequiresGradAlone()
    eager: Approach = RequiresGradEager()
    way: Approach | None = None
    """The user's own way."""

    def roles_for(self, case: Case) -> dict[Role, Approach]:
        """The approach of each role in a trial of this case.

        The role `again` is A once more, to see whether it repeats itself. `resumed` and `resumed-b`
        are A and B, and go on from every checkpoint. `alone` is A with an optimizer for each
        parameter, and `eager` is A with nothing compiled. `gradual` is there where the program
        thaws a parameter that was frozen from the start, or adds one that stays frozen.
        """
        roles: dict[Role, Approach] = {"a": self.a, "b": self.b}
        extras: dict[Extra, Approach] = {
            "cleared": self.cleared,
            "second": self.second,
            "rebuilt": self.rebuilt,
            "alone": self.alone,
            "eager": self.eager,
        }
        extras["again"] = self.a
        roles |= {role: extras[role] for role in extras if role in case.extras}
        if self.way is not None and not self.way.unfit(case, AUTOGRAD):
            roles["way"] = self.way
        if case.has(AddFrozen) or not {*case.initially_frozen}.isdisjoint(case.thawed):
            roles["gradual"] = self.gradual
        if case.has(SaveLoad):
            roles |= {"resumed": self.a, "resumed-b": self.b}
        return roles


@dataclass(frozen=True)
class Alone(Approaches):
    """A by itself, and once more from its checkpoints: enough to see what an optimizer can do."""

    def roles_for(self, case: Case) -> dict[Role, Approach]:
        roles = super().roles_for(case)
        return {role: roles[role] for role in roles if role in ("a", "resumed")}


@dataclass(frozen=True)
class OnlyA(Approaches):
    """A and nothing beside it, not even from its checkpoints."""

    def roles_for(self, case: Case) -> dict[Role, Approach]:
        return {"a": self.a}
