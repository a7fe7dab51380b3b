"""Correct optimizers that look suspicious: none may ever be flagged."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tests.helpers.broken import Sound
from tests.helpers.broken_rarely import Averages


class Stochastic(Sound):
    """Rounds its update at random, with the global RNG."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient + torch.rand_like(gradient) * 0.01, scale)


class SkipsAtRandom(Sound):
    """Leaves every second update out, as chance will have it."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient, scale * (torch.rand(()) < 0.5).item())


class Signs(Sound):
    """Takes the sign of its momentum: a gradient that is NaN once stops a parameter for good."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        super().update(group, parameter, momentum.lerp_(gradient, 0.1).sign(), scale)


class PythonRandom(Sound):
    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient, scale=1 + random.random())


class Lookahead(Sound):
    """Every second update of a parameter goes half the way back to its slow copy."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        state.setdefault("slow", parameter.clone())
        super().update(group, parameter, gradient, scale)
        state["updates"] = state.get("updates", 0) + 1
        if state["updates"] % 2 == 0:
            parameter.copy_(state["slow"].lerp_(parameter, 0.5))


class Foreach(Sound):
    """Updates lists of tensors at once."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        for group in self.param_groups:
            owned = [parameter for parameter in group["params"] if parameter.grad is not None]
            if owned:
                torch._foreach_mul_(owned, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(
                    owned, [parameter.grad for parameter in owned], alpha=-group["lr"]
                )
        return loss


class MatricesOnly(Sound):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        if any(
            parameter.dim() != 2 for group in self.param_groups for parameter in group["params"]
        ):
            raise ValueError("only matrices")

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient @ gradient.T @ gradient, scale)


class ClosureOnly(Sound):
    """Evaluates twice: at the parameters, and where one step would lead."""

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        loss = self.evaluate(closure)
        with torch.no_grad():
            owned = [
                (group["lr"], p)
                for group in self.param_groups
                for p in group["params"]
                if p.grad is not None
            ]
            old = [p.clone() for _, p in owned]
            for rate, parameter in owned:
                parameter.add_(parameter.grad, alpha=-rate)
        self.evaluate(closure)
        with torch.no_grad():
            for (rate, parameter), before in zip(owned, old, strict=True):
                parameter.copy_(before).add_(parameter.grad, alpha=-rate)
        return loss


class MasterWeights(Sound):
    """Keeps float32 copies of what is in a smaller dtype."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        # A copy also in float32: were the state the parameter itself, a checkpoint would part them.
        if "master" not in state:
            state["master"] = parameter.to(torch.float32, copy=True)
        state["master"].add_(gradient.float(), alpha=-group["lr"])
        parameter.copy_(state["master"])


class GlobalNorm(Sound):
    """Couples all parameters: scales by the norm over all owned gradients."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        owned = [
            (group, p) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        total = sum(float(p.grad.double().square().sum()) for _, p in owned)
        for group, parameter in owned:
            self.update(group, parameter, parameter.grad, scale=1 / (1 + total))
        return loss


class ClipsLargeNorms(Sound):
    """Couples all parameters where their gradients are large together, and only there."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        owned = [
            (group, p) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        total = sum(float(p.grad.double().square().sum()) for _, p in owned) ** 0.5
        for group, parameter in owned:
            self.update(group, parameter, parameter.grad, scale=min(1.0, 5.0 / (total + 1e-6)))
        return loss


class NormOfEach(Sound):
    """Scales each update by the norms of its parameter and its gradient, as LARS does."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        trust = parameter.norm() / (gradient.norm() + 1e-6)
        super().update(group, parameter, gradient, scale * float(trust.clamp(0.1, 10.0)))


class CountsInGroup(Sound):
    """Counts all steps in each group, whether or not its members have gradients."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
        return super().step(closure)

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient, scale=group["step"] ** -0.5)


class NeedsRate(Optimizer):
    """Has no default learning rate, and steps by the sign.

    It sets gradients to None in step(), and returns its loss as a float.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = float(closure())
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad.sign(), alpha=-group["lr"])
                    parameter.grad = None
        return loss


class StateIsTensor(Sound):
    """Its state of a parameter is the momentum itself, and no dict."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        if parameter not in self.state:
            self.state[parameter] = torch.zeros_like(parameter)
        buffer: Any = self.state[parameter]
        parameter.add_(buffer.mul_(0.9).add_(gradient), alpha=-group["lr"] * scale)


class LogsNorms(Sound):
    """Keeps the norms of its last gradients, for logs, in a tensor in its state."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state: dict[Any, Any] = self.state
        norms = state.get("norms", torch.zeros(4))
        state["norms"] = torch.cat([norms[1:], gradient.float().norm()[None]])
        super().update(group, parameter, gradient, scale)


class CountsByNumber(Sound):
    """Counts the steps of each group, in a dict with the number of the group, and saves it."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        self.counts: dict[int, int] = {}
        super().__init__(params, lr)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "counts": {**self.counts}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rest = {**state_dict}
        self.counts = {**rest.pop("counts")}
        super().load_state_dict(rest)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for index in range(len(self.param_groups)):
            self.counts[index] = self.counts.get(index, 0) + 1
        return super().step(closure)

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.update(group, parameter, parameter.grad, self.counts[index] ** -0.5)


class WarmsUp(Sound):
    """Counts its steps in a dict within its state."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        state: dict[Any, Any] = self.state
        warm = self.warm = state.setdefault("warm-up", {})
        warm["steps"] = warm.get("steps", 0) + 1
        return super().step(closure)

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient, min(1.0, self.warm["steps"] / 8))


class Noise:
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)

    def like(self, tensor: Tensor) -> Tensor:
        return torch.rand(tensor.shape, generator=self.generator).to(tensor.dtype) * 1e-3


class OwnGenerator(Sound):
    """Adds noise from a helper that was seeded in the constructor, and is saved."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0) -> None:
        super().__init__(params, lr, momentum)
        self.noise = Noise()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "noise": self.noise.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rest = {**state_dict}
        self.noise.generator.set_state(rest.pop("noise"))
        super().load_state_dict(rest)

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient + self.noise.like(gradient), scale)


CORRECT: tuple[type[Optimizer], ...] = (
    Sound,
    Stochastic,
    SkipsAtRandom,
    Signs,
    PythonRandom,
    Lookahead,
    Foreach,
    MatricesOnly,
    ClosureOnly,
    MasterWeights,
    GlobalNorm,
    ClipsLargeNorms,
    NormOfEach,
    CountsInGroup,
    NeedsRate,
    StateIsTensor,
    LogsNorms,
    CountsByNumber,
    WarmsUp,
    OwnGenerator,
    Averages,
)
