"""Small optimizers that need only torch, and whose bugs few programs show.

`tests.helpers.planted_rare` says which invariant must report each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tests.helpers.broken import Sound
from tests.helpers.broken_programs import Heavy, PullsToSlowWeights

# At every n-th step


class PullsEveryFifth(PullsToSlowWeights):
    period = 5


class PullsEverySixth(PullsToSlowWeights):
    period = 6


class PullsEveryTenth(PullsToSlowWeights):
    period = 10


# A group that is added while it is frozen


class LooksAtWhatIsAdded(Heavy):
    """Keeps the parameters that a later group brings while they are frozen."""

    def __init__(
        self, params: Any, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        self.built = False
        self.added_frozen: list[Tensor] = []
        super().__init__(params, lr, momentum, weight_decay)
        self.built = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        if self.built:
            added = self.param_groups[-1]["params"]
            self.added_frozen += [p for p in added if not p.requires_grad]


class ScalesWhatIsAddedFrozen(LooksAtWhatIsAdded):
    @torch.no_grad()
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        known = len(self.added_frozen)
        super().add_param_group(param_group)
        for parameter in self.added_frozen[known:]:
            parameter.mul_(0.9)


class NeverTrainsWhatWasAddedFrozen(LooksAtWhatIsAdded):
    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        if all(each is not parameter for each in self.added_frozen):
            super().update(group, parameter, gradient, scale)


class ThawsWhatWasAddedFrozen(LooksAtWhatIsAdded):
    def after(self) -> None:
        for parameter in self.added_frozen:
            parameter.requires_grad_(True)


class DecaysWhatWasAddedFrozen(LooksAtWhatIsAdded):
    def after(self) -> None:
        for parameter in self.added_frozen:
            if parameter.grad is None:
                parameter.mul_(0.9)


# Weights that are loaded after the optimizer was built


class PutsFirstBiasesBack(Sound):
    """Gives a bias that never had a gradient the values that it had in the constructor."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0) -> None:
        super().__init__(params, lr, momentum)
        groups = self.param_groups
        self.first = {p: p.detach().clone() for group in groups for p in group["params"]}

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.first.pop(parameter, None)
        elif parameter in self.first and parameter.dim() == 1:
            parameter.copy_(self.first[parameter])
        super().visit(index, group, position, parameter)


# In an order that hangs on addresses


class DrawsInOrderOfSet(Sound):
    """Draws noise for each parameter, in the order in which a set has them."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if position == 0:
            for each in {each for each in group["params"] if each.grad is not None}:
                self.update(group, each, each.grad, scale=1 + float(torch.rand(())))


class ScalesLastOfSet(Sound):
    """Takes for the output layer what a set has last."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if position == 0:
            *others, last = {*group["params"]}
            for each in others:
                super().visit(index, group, 0, each)
            if last.grad is not None:
                self.update(group, last, last.grad, scale=2.0)


class SumsInOrderOfSet(Sound):
    """Scales by a norm that is summed up in the order in which a set has the gradients."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        owned = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        total = torch.zeros(())
        for each in {*owned}:
            total = total + each.grad.float().square().sum()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(group, parameter, parameter.grad, scale=float(1 / (1 + total)))
        return loss


# In eval mode, or after it


class Averages(Sound):
    """Averages the weights, which eval() puts in their place until train(). It is sound."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0) -> None:
        super().__init__(params, lr, momentum)
        self.kept: dict[Tensor, Tensor] = {}

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient, scale)
        average = self.state[parameter].setdefault("average", parameter.clone())
        average.lerp_(parameter, 0.1)

    def average(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        average: Tensor = self.state.get(parameter, {}).get("average", parameter)
        return average

    @torch.no_grad()
    def eval(self) -> None:
        for group in self.param_groups if not self.kept else ():
            for parameter in group["params"]:
                self.kept[parameter] = parameter.clone()
                parameter.copy_(self.average(group, parameter))

    @torch.no_grad()
    def train(self) -> None:
        for parameter, kept in self.kept.items():
            parameter.copy_(kept)
        self.kept.clear()


class CorrectsByFirst(Averages):
    """Corrects all averages by the number of updates of the first parameter."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        super().visit(index, group, position, parameter)
        if position == 0 and parameter.grad is not None:
            group["updates"] = group.get("updates", 0) + 1

    def average(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        average = super().average(group, parameter)
        return average if average is parameter else average / (1 - 0.9 ** group.get("updates", 0))


class AveragesWhatRequiresGrad(Averages):
    """Takes the average of another parameter where something before it was thawed."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0) -> None:
        super().__init__(params, lr, momentum)
        self.averages = [parameter.detach().clone() for parameter in self.trained]

    @property
    def trained(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def average(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        for each, average in zip(self.trained, self.averages, strict=False):
            if each is parameter and average.shape == parameter.shape:
                return average
        return parameter


class PutsBackTheFirst(Heavy):
    """train() gives what was never updated the weights of the constructor, and rounds them."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(params, lr, momentum)
        groups, self.training = self.param_groups, True
        self.first = {p: p.detach() * 1.001 for group in groups for p in group["params"]}

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient, scale)
        self.first.pop(parameter, None)

    def eval(self) -> None:
        self.training = False

    @torch.no_grad()
    def train(self) -> None:
        for parameter, first in self.first.items() if not self.training else ():
            parameter.copy_(first)
        self.training = True


# In hooks, while the backward pass runs


class StepsInHooks(Optimizer):
    """Steps as gradients come, and hangs hooks on what requires grad at its zero_grad().

    It is sound but where the model clears the gradients: what thaws then has a hook in a training
    that goes on, and none in one that was resumed while it was frozen.
    """

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})
        self.hooks: dict[Tensor, Any] = {}
        self.hang()

    def hang(self) -> None:
        for group in self.param_groups:
            for each in group["params"]:
                if each.requires_grad and each not in self.hooks:
                    self.hooks[each] = each.register_post_accumulate_grad_hook(self.follow)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.hang()
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def follow(self, parameter: Tensor) -> None:
        for group in self.param_groups:
            if any(each is parameter for each in group["params"]):
                parameter.sub_(group["lr"] * parameter.grad)
                parameter.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return None if closure is None else closure()


class StepsInHooksAndDecays(StepsInHooks):
    """Decays what has ever trained, in step(), also once it is frozen."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.trained: set[Tensor] = set()

    def follow(self, parameter: Tensor) -> None:
        super().follow(parameter)
        self.trained.add(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in self.trained:
                    parameter.mul_(0.99)
        return super().step(closure)
