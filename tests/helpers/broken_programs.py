"""Small optimizers that need only torch, and are broken in longer programs.

They break once a parameter was frozen midway, thawed, added, saved, or handled twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.helpers.broken import Sound


class Heavy(Sound):
    """Sound, with momentum unless another is drawn, and a count of each parameter's updates."""

    def __init__(
        self, params: Any, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr, momentum or 0.9, weight_decay)

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        state["updates"] = state.get("updates", 0) + 1
        super().update(group, parameter, gradient, scale)

    def warm(self, parameter: Tensor) -> bool:
        """Whether the parameter was updated before and has no gradient now."""
        return parameter.grad is None and bool(self.state.get(parameter))


class HeavyInBothModes(Heavy):
    """Has modes, and does the same in both."""

    def train(self) -> None:
        pass

    def eval(self) -> None:
        pass


# Frozen midway


class RollsOn(Heavy):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if self.warm(parameter):
            parameter.add_(self.state[parameter]["buffer"], alpha=-group["lr"])
        super().visit(index, group, position, parameter)


class RollsOnInSecondGroup(RollsOn):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        kind = RollsOn if index else Heavy
        kind.visit(self, index, group, position, parameter)


class RollsOnInBFloat16(Heavy):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if self.warm(parameter) and parameter.dtype == torch.bfloat16:
            parameter.mul_(0.5)
        super().visit(index, group, position, parameter)


class CountsWhatIsFrozen(Heavy):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if self.warm(parameter):
            self.state[parameter]["updates"] += 1
        super().visit(index, group, position, parameter)


class CoolsMomentum(Heavy):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if self.warm(parameter):
            self.state[parameter]["buffer"].mul_(group["momentum"])
        super().visit(index, group, position, parameter)


class PullsToSlowWeights(Heavy):
    """Goes half the way back to the slow copy at every second step, frozen parameters included."""

    period = 2

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        self.state[parameter].setdefault("slow", parameter.clone())
        super().update(group, parameter, gradient, scale)

    def after(self) -> None:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps % self.period == 0:
            for parameter, state in self.state.items():
                if "slow" in state:
                    parameter.lerp_(state["slow"], 0.5)


class StateByRank(Heavy):
    """Keeps its buffers in a list, one for each parameter that has a gradient."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        with torch.no_grad():
            owned = [
                (group, p)
                for group in self.param_groups
                for p in group["params"]
                if p.grad is not None
            ]
            buffers: list[Tensor] = self.__dict__.setdefault("buffers", [])
            buffers += [torch.zeros_like(p) for _, p in owned[len(buffers) :]]
            for (group, parameter), buffer in zip(owned, buffers, strict=False):
                parameter.add_(buffer.mul_(0.9).add_(parameter.grad), alpha=-group["lr"])
        return loss


class StateByPosition(Heavy):
    """Keeps its buffers by place in the group: the places change when a parameter leaves it."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        place = next(i for i, each in enumerate(group["params"]) if each is parameter)
        buffer = group.setdefault("buffers", {}).setdefault(place, torch.zeros_like(parameter))
        parameter.add_(buffer.mul_(0.9).add_(gradient), alpha=-group["lr"])


class MovesAtRefreezing(Heavy):
    """Right when a parameter is frozen once, wrong when it is frozen again."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if self.warm(parameter):
            state = self.state[parameter]
            if state.get("left") != state["updates"]:
                state["left"] = state["updates"]
                state["times"] = state.get("times", 0) + 1
            if state["times"] > 1:
                parameter.mul_(0.5)
        super().visit(index, group, position, parameter)


class MovesFromThirdStep(Heavy):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is None and getattr(self, "steps", 0) >= 2:
            parameter.mul_(0.5)
        super().visit(index, group, position, parameter)

    def after(self) -> None:
        self.steps = getattr(self, "steps", 0) + 1


class MovesFirstTwo(Heavy):
    """Decays the first two parameters where neither has a gradient."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            first = self.param_groups[0]["params"][:2]
            if len(first) == 2 and all(parameter.grad is None for parameter in first):
                first[0].mul_(0.9)
        return loss


class MovesWhenTheRateChanges(Heavy):
    def after(self) -> None:
        for group in self.param_groups:
            if group.setdefault("last", group["lr"]) != group["lr"]:
                for parameter in group["params"]:
                    parameter.mul_(0.9)
            group["last"] = group["lr"]


class SwapsFrozenInEval(Heavy):
    """Averages weights in eval mode, those of frozen parameters too."""

    training = True

    @torch.no_grad()
    def eval(self) -> None:
        if self.training:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(0.5)
        self.training = False

    @torch.no_grad()
    def train(self) -> None:
        if not self.training:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(2.0)
        self.training = True


# Thawed


class TrainsWhatRequiredGradAtFirst(Heavy):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.chosen = {
            id(p) for group in self.param_groups for p in group["params"] if p.requires_grad
        }

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if id(parameter) in self.chosen:
            super().visit(index, group, position, parameter)


class NeverForgivesNone(Heavy):
    """Gives a parameter up for good once its gradient was None."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        given_up = self.__dict__.setdefault("given_up", set())
        if parameter.grad is None:
            given_up.add(id(parameter))
        if id(parameter) not in given_up:
            super().visit(index, group, position, parameter)


class ListsOfMomentum(Heavy):
    """Updates all momentum buffers in one call, which takes no None, as SGD(fused=True) does."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        for group in self.param_groups:
            owned = [p for p in group["params"] if p.grad is not None]
            buffers: list[Any] = [
                self.state[p].get("buffer") if p in self.state else None for p in owned
            ]
            if all(buffer is None for buffer in buffers):
                buffers = [torch.zeros_like(p) for p in owned]
            if owned:
                torch._foreach_mul_(buffers, 0.9)
                torch._foreach_add_(buffers, [p.grad for p in owned])
                torch._foreach_add_(owned, buffers, alpha=-group["lr"])
            for parameter, buffer in zip(owned, buffers, strict=True):
                self.state[parameter]["buffer"] = buffer
        return loss


class ClearsWhatRequiredGradAtFirst(TrainsWhatRequiredGradAtFirst):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        Heavy.visit(self, index, group, position, parameter)

    def zero_grad(self, set_to_none: bool = True) -> None:
        kept = [
            p for group in self.param_groups for p in group["params"] if id(p) not in self.chosen
        ]
        gradients = [p.grad for p in kept]
        super().zero_grad(set_to_none)
        for parameter, gradient in zip(kept, gradients, strict=True):
            parameter.grad = gradient


class EnablesWhatItKnows(Heavy):
    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if self.warm(parameter):
            parameter.requires_grad_(True)
        super().visit(index, group, position, parameter)


class DrawsForWhatItKnows(Heavy):
    """Rounds at random, and draws a number for a parameter frozen midway as well."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if self.warm(parameter):
            torch.rand(())
        super().visit(index, group, position, parameter)


# Groups that are added


class InitialGroupsOnly(Heavy):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.count = len(self.param_groups)

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if index < self.count:
            super().visit(index, group, position, parameter)


class StateInConstructorOnly(Sound):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["buffer"] = torch.zeros_like(parameter)

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        parameter.add_(self.state[parameter]["buffer"].mul_(0.9).add_(gradient), alpha=-group["lr"])


class ScalesAddedGroup(Heavy):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        if self.state:
            with torch.no_grad():
                for parameter in self.param_groups[-1]["params"]:
                    parameter.mul_(0.9)


class ForgetsWhenAdding(Heavy):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self.state.clear()


# Checkpoints


class LoadsInOrder(Heavy):
    """Gives the saved states to the first parameters, whichever they were of."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(enumerate(state_dict["state"].values()))
        super().load_state_dict({**state_dict, "state": state})


class LoadsStateOfEach(Heavy):
    """Expects a state for every parameter."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for group in state_dict["param_groups"]:
            for number in group["params"]:
                state_dict["state"][number]["buffer"]
        super().load_state_dict(state_dict)


class SavesWhatTrains(Heavy):
    """Leaves out of a checkpoint what is frozen just then."""

    def state_dict(self) -> dict[str, Any]:
        saved = super().state_dict()
        parameters = [p for group in self.param_groups for p in group["params"]]
        trained = {i: state for i, state in saved["state"].items() if parameters[i].requires_grad}
        return {**saved, "state": trained}


class LoadingThaws(Heavy):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)


# Accumulation and closures


class AveragesOverPasses(Sound):
    """Divides by the smallest number of backward passes in the group, none if one is frozen."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.passes: dict[Tensor, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(self.count)

    def count(self, parameter: Tensor) -> None:
        self.passes[parameter] = self.passes.get(parameter, 0) + 1

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        most = max(self.passes.values(), default=1)
        least = min(self.passes.get(each, 0) for each in group["params"])
        super().update(group, parameter, gradient, 1 / max(least, 1) if most > 1 else 1.0)

    def after(self) -> None:
        self.passes.clear()


class SecondClosureWithoutGrad(Heavy):
    def evaluate(self, closure: Callable[[], Any]) -> Any:
        self.evaluated = getattr(self, "evaluated", 0) + 1
        return super().evaluate(closure) if self.evaluated == 1 else closure()
