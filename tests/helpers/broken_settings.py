"""Optimizers with bugs that only a setting shows, and correct ones that look as if they had one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.helpers.broken import Sound

# Compiled


class DecaysWhenCompiled(Sound):
    """Decays all weights at once, in the code for graphs alone."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if torch.compiler.is_compiling():
            parameter.mul_(1 - group["lr"] * 0.01)
        super().visit(index, group, position, parameter)


class ZerosWhenCompiled(Sound):
    """Takes a missing gradient for zeros, so that one graph fits all masks: momentum goes on."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is None and torch.compiler.is_compiling() and self.state[parameter]:
            gradient = torch.zeros_like(parameter)
        if gradient is not None:
            state = self.state[parameter]
            if "mean" not in state:
                state["mean"] = torch.zeros_like(parameter)
            self.update(group, parameter, state["mean"].lerp_(gradient, 0.5))


class KnowsFirstGradientsWhenCompiled(Sound):
    """Remembers which parameters had a gradient in the first graph, and trains no others."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if torch.compiler.is_compiling():
            known = self.state[parameter].setdefault("trains", parameter.grad is not None)
            if not known:
                return
        super().visit(index, group, position, parameter)


class AllocatesWhenCompiled(Sound):
    """Allocates state for every parameter, so that its graph does not change later."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if torch.compiler.is_compiling() and "buffer" not in self.state[parameter]:
            self.state[parameter]["buffer"] = torch.zeros_like(parameter)
        super().visit(index, group, position, parameter)


class LeavesDecayOutWhenCompiled(Sound):
    """Has no weight decay in the code for graphs: A and B agree, and both are wrong."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        given = {**group, "weight_decay": 0.0} if torch.compiler.is_compiling() else group
        super().update(given, parameter, gradient, scale)


class CountsInAList(Sound):
    """Keeps a list that grows by one in each step: its length is a constant of each graph."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.history: list[float] = []

    def step(self, closure: Any = None) -> Any:
        self.history.append(self.param_groups[0]["lr"])
        return super().step(closure)


class ActsAtEachFourthStep(Sound):
    """Correct: counts for each parameter, and does something else at each fourth step."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        state["calls"] = state.get("calls", 0) + 1
        super().update(group, parameter, gradient, scale)
        if state["calls"] % 4 == 0:
            parameter.mul_(0.99)


class HasTwoCodes(Sound):
    """Correct: a graph takes other operations, which do the same."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        if not torch.compiler.is_compiling():
            return super().update(group, parameter, gradient, scale)
        parameter.copy_(parameter * (1 - group["lr"] * group["weight_decay"]))
        if group["momentum"]:
            state = self.state[parameter]
            old = state.get("buffer")
            old = torch.zeros_like(parameter) if old is None else old
            state["buffer"] = gradient = old * group["momentum"] + gradient
        parameter.copy_(parameter.add(gradient, alpha=-group["lr"] * scale))
        return None


class RoundsWhenCompiled(Sound):
    """Correct: a graph computes the length of its step in float32, as torch's Adam does."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        rounded = scale * (1 + 1e-7) if torch.compiler.is_compiling() else scale
        super().update(group, parameter, gradient, rounded)


class AmplifiesWhatItRounds(RoundsWhenCompiled):
    """Correct: it trains far more unlike after any change as small as rounding."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        super().visit(index, group, position, parameter)
        if parameter.grad is not None:
            parameter.mul_(1000).sin_()


class BreaksItsGraph(Sound):
    """Correct: it reads a number from a tensor, which ends the graph in the middle of a step."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        if gradient.abs().sum().item() > 0:
            super().update(group, parameter, gradient, scale)


# On several ranks


def rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def ranks() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def broadcast(tensor: Tensor, owner: int) -> None:
    """Send a tensor from one rank to all."""
    if ranks() > 1:
        torch.distributed.broadcast(tensor, owner)


class DecaysOnOneRank(Sound):
    """Decays parameters without a gradient, on the last rank only."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if 0 < rank() == ranks() - 1 and parameter.grad is None:
            parameter.mul_(1 - group["lr"] * 0.1)
        super().visit(index, group, position, parameter)


class BroadcastsFromOneThatDecays(DecaysOnOneRank):
    """Then sends all weights from that rank to the others: they agree on what is wrong."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        super().visit(index, group, position, parameter)
        broadcast(parameter, ranks() - 1)


class SkipsCollective(Sound):
    """Adds up the gradients of all ranks, but on rank 0 skips a parameter without one: a hang."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is None and rank() == 0:
            return
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        if ranks() > 1:
            torch.distributed.all_reduce(gradient)
        if parameter.grad is not None:
            self.update(group, parameter, gradient / ranks())


class WaitsForWhatThaws(Sound):
    """Rank 0 knows the gradients of the first step only, and takes no part in others: a hang."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        seen: dict[Tensor, bool] = vars(self).setdefault("seen", {})
        known = seen.setdefault(parameter, parameter.grad is not None)
        if ranks() > 1 and parameter.grad is not None and (known or rank() > 0):
            torch.distributed.all_reduce(parameter.grad.clone())
        super().visit(index, group, position, parameter)


class ReducesIntoMissingGradients(Sound):
    """Gives every parameter a gradient, so that each rank can take part in each collective."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if ranks() > 1 and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
        super().visit(index, group, position, parameter)


class DrawsByRank(Sound):
    """Draws noise from a generator that is seeded by the rank."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        noise = torch.empty_like(gradient)
        noise.normal_(generator=torch.Generator().manual_seed(rank()))
        super().update(group, parameter, gradient + noise * 0.01 * rank(), scale)


class SavesFrozenOnFirstRank(Sound):
    """Leaves what has no gradient out of the checkpoints of other ranks."""

    def state_dict(self) -> dict[str, Any]:
        saved = super().state_dict()
        owned = [p for group in self.param_groups for p in group["params"]]
        for place, parameter in enumerate(owned):
            if rank() > 0 and parameter.grad is None:
                saved["state"].pop(place, None)
        return saved


class ShardsByGradients(Sound):
    """One rank updates each parameter: by its place among those with a gradient, which changes."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.evaluate(closure) if closure is not None else None
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            for place, parameter in enumerate(with_gradient):
                owner = place % ranks()
                if rank() == owner:
                    self.update(group, parameter, parameter.grad)
                broadcast(parameter, owner)
        return loss


class ShardsByPosition(Sound):
    """Correct: one rank updates each parameter, by its place among all."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is not None:
            owner = parameter.numel() % ranks()
            if rank() == owner:
                self.update(group, parameter, parameter.grad)
            broadcast(parameter, owner)


class BroadcastsAll(Sound):
    """Correct: it sends all weights from rank 0, frozen ones too, which changes nothing."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        super().visit(index, group, position, parameter)
        broadcast(parameter, 0)


class CountsGradients(Sound):
    """Correct: all ranks tell each other which gradients they have, and leave none out."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        there = torch.tensor(float(parameter.grad is not None))
        if ranks() > 1:
            torch.distributed.all_reduce(there)
        if there:
            super().visit(index, group, position, parameter)


class AveragesWeights(Sound):
    """Correct: it averages the weights of all ranks, which are equal, in float64."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        super().visit(index, group, position, parameter)
        mean = parameter.double()
        if ranks() > 1:
            torch.distributed.all_reduce(mean)
            parameter.copy_(mean / ranks())
