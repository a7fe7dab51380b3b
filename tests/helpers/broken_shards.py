"""Optimizers whose bugs show where parameters or their states are shared out between ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.helpers.broken import Sound
from tests.helpers.broken_settings import rank, ranks


def shard(tensor: Tensor) -> Tensor | None:
    """What this rank holds of a DTensor; None of any other tensor."""
    to_local: Any = getattr(tensor, "to_local", None)
    return None if to_local is None else to_local()


# With fully_shard, parameters and gradients are DTensors


class DecaysShards(Sound):
    """Decays the local part of each parameter, before it looks for a gradient."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        local = shard(parameter)
        if local is not None:
            local.mul_(1 - group["lr"] * 0.01)
        super().visit(index, group, position, parameter)


class ZerosForMissingShards(Sound):
    """Takes the local part of a missing gradient for zeros, so that momentum goes on."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        local = shard(parameter)
        if local is None:
            return super().visit(index, group, position, parameter)
        gradient = torch.zeros_like(local) if parameter.grad is None else shard(parameter.grad)
        state = self.state[parameter]
        if gradient is not None and (state or parameter.grad is not None):
            if "mean" not in state:
                state["mean"] = torch.zeros_like(local)
            local.sub_(state["mean"].lerp_(gradient, 0.5), alpha=group["lr"])
        return None


class AllocatesShards(Sound):
    """Keeps a copy of the local part of every parameter."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        local = shard(parameter)
        if local is not None and "first" not in self.state[parameter]:
            self.state[parameter]["first"] = local.clone()
        super().visit(index, group, position, parameter)


class FillsMissingShards(Sound):
    """Gives each parameter a gradient, so that all ranks can add up the norms of all of them."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is None and shard(parameter) is not None:
            parameter.grad = torch.zeros_like(parameter)
        super().visit(index, group, position, parameter)


class NormsWithoutFirstRank(Sound):
    """Adds up the norms of the shards, but on rank 0 skips a missing gradient: a hang."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        local = shard(parameter)
        if local is not None and (parameter.grad is not None or rank() > 0):
            gradient = None if parameter.grad is None else shard(parameter.grad)
            norm = torch.zeros(()) if gradient is None else gradient.float().norm()
            torch.distributed.all_reduce(norm)
        super().visit(index, group, position, parameter)


class KnowsFirstShards(Sound):
    """Lists the local parts that had a gradient in the first step, and trains no others."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        known: dict[Tensor, bool] = vars(self).setdefault("known", {})
        if shard(parameter) is None or known.setdefault(parameter, parameter.grad is not None):
            super().visit(index, group, position, parameter)


class StepsShards(Sound):
    """Correct: each rank steps the local parts, element by element, and tells nobody."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        local, part = shard(parameter), shard(gradient)
        if local is None or part is None:
            return super().update(group, parameter, gradient, scale)
        local.mul_(1 - group["lr"] * group["weight_decay"])
        if group["momentum"]:
            state = self.state[parameter]
            if "buffer" not in state:
                state["buffer"] = torch.zeros_like(local)
            part = state["buffer"].mul_(group["momentum"]).add_(part)
        local.add_(part, alpha=-group["lr"] * scale)
        return None


class DividesByWholeNorm(Sound):
    """Correct: all ranks divide a gradient by the norm of the whole, which is a collective."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient / (1 + gradient.norm()), scale)


# With ZeroRedundancyOptimizer, each rank has an optimizer of some parameters


class DividesByOwnNorm(Sound):
    """Divides by the norm of all gradients that it has: under another mask, that is others."""

    norm = 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        owned = [p for group in self.param_groups for p in group["params"]]
        norms = [p.grad.float().norm() for p in owned if p.grad is not None]
        self.norm = float(torch.stack(norms).norm()) if norms and ranks() > 1 else 0.0
        super().step()
        return loss

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        super().update(group, parameter, gradient, scale / (1 + self.norm))


class SkipsRanksThatRest(Sound):
    """Counts all gradients, but a rank whose own parameters have none takes no part: a hang."""

    def after(self) -> None:
        owned = [p for group in self.param_groups for p in group["params"]]
        count = torch.tensor(sum(p.grad is not None for p in owned))
        if ranks() > 1 and (count or not owned):
            torch.distributed.all_reduce(count)


class DecaysWhereAllRests(Sound):
    """Decays all its parameters if none of them has a gradient, though other ranks have some."""

    def after(self) -> None:
        owned = [p for group in self.param_groups for p in group["params"]]
        count = torch.tensor(sum(p.grad is not None for p in owned))
        total = count.clone()
        if ranks() > 1:
            torch.distributed.all_reduce(total)
        if total and not count:
            for parameter in owned:
                parameter.mul_(0.99)


class CountsAllGradients(Sound):
    """Correct: all ranks take part in one collective of each step, whatever they own."""

    def after(self) -> None:
        owned = [p for group in self.param_groups for p in group["params"]]
        count = torch.tensor(sum(p.grad is not None for p in owned))
        if ranks() > 1:
            torch.distributed.all_reduce(count)
