"""Correct optimizers of more kinds: other arguments, and other uses of a closure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tests.helpers.protocols import PROTOCOLS, Plain, TwoLists


class ByKeyword(TwoLists):
    """The list of matrices comes second, and by name only."""

    def __init__(self, params: Any, *, muon_params: Any = None, lr: float = 0.1) -> None:
        super().__init__(muon_params, params, lr)


class Swapped(TwoLists):
    """The list of matrices comes second."""

    def __init__(self, adamw_params: Any, muon_params: Any, lr: float = 0.1) -> None:
        super().__init__(muon_params, adamw_params, lr)


class Between(TwoLists):
    """Settings come before the two lists, and between them."""

    def __init__(
        self, lr: float = 0.1, muon_params: Any = None, eps: float = 1e-8, adamw_params: Any = None
    ) -> None:
        super().__init__(muon_params, adamw_params, lr)


class RefusesEmpty(TwoLists):
    """Refuses an empty list, with nothing frozen too."""

    def __init__(self, muon_params: Any, adamw_params: Any, lr: float = 0.1) -> None:
        lists = list(muon_params), list(adamw_params)
        if not all(lists):
            raise ValueError("a list is empty")
        super().__init__(*lists, lr)


class OfModel(Plain):
    """Takes a model."""

    def __init__(self, network: nn.Module, lr: float = 0.1) -> None:
        super().__init__(list(network.parameters()), lr)


class AsksClosure(Plain):
    """Tells its closure whether to compute gradients, and goes back if the loss grows."""

    def step(self, closure: Callable[..., Any] | None = None) -> Any:
        assert closure is not None
        with torch.enable_grad():
            loss = closure(backward=True)
        before = [parameter.detach().clone() for parameter in self.owned]
        super().step()
        with torch.no_grad():
            if closure(False) > 100 * loss:
                for parameter, weights in zip(self.owned, before, strict=True):
                    parameter.copy_(weights)
        return loss


class AsksIfAny(Plain):
    """Gives its closure an argument, if it has one."""

    def step(self, closure: Callable[..., Any] | None = None) -> Any:
        if closure is None:
            return super().step()
        evaluate = closure
        return super().step(lambda: evaluate(backward=True))


class CallsBackward(Plain):
    """Calls backward itself, and looks for a step with which the loss falls."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is not None
        with torch.enable_grad():
            loss = closure()
            loss.backward()
        before = [parameter.detach().clone() for parameter in self.owned]
        for _ in range(4):
            super().step()
            with torch.no_grad():
                if closure() <= loss:
                    break
                for parameter, weights in zip(self.owned, before, strict=True):
                    parameter.lerp_(weights, 0.5)
        return loss


class ReadsLoss(Plain):
    """Reads the loss from its closure, under no_grad, and takes the gradients as they are."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is not None
        loss = closure()
        assert loss >= 0
        super().step()
        return loss


class OfList(Plain):
    """Takes a list of parameters, and neither an iterator nor groups."""

    def __init__(self, params: list[nn.Parameter], lr: float = 0.1) -> None:
        if not (isinstance(params, list) and isinstance(params[0], nn.Parameter)):
            raise TypeError("give a list")
        super().__init__(params, lr)


class ListsDecays(Optimizer):
    """Keeps a weight decay for each parameter, and takes a number in its constructor only."""

    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": [weight_decay]})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            decays = group["weight_decay"]
            for i, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * decays[i % len(decays)])
                    parameter.add_(parameter.grad, alpha=-group["lr"])


class Guessed(Plain):
    """Wants arguments that tell nothing by their names, or only what an annotation tells."""

    def __init__(self, params: Any, eta: Any, scale: float, exact: bool, warmup_steps: Any = None):
        if not 0 < eta < 1:
            raise ValueError("eta is between 0 and 1")
        self.warmup = warmup_steps + 1
        super().__init__(params, eta * scale if not exact else eta)


class Distilled(Plain):
    """Cannot be built without a network."""

    def __init__(self, params: Any, teacher: Any, lr: float = 0.1) -> None:
        self.weights = list(teacher.parameters())
        super().__init__(params, lr)


class NeedsCalls(Plain):
    """Cannot step unless it is told something first."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        raise RuntimeError("call begin() first")


USES: dict[type[Optimizer], dict[str, Any]] = {
    **PROTOCOLS,
    ByKeyword: {"takes": "two-lists", "lists": ("muon_params", "params")},
    Swapped: {"takes": "two-lists", "lists": ("muon_params", "adamw_params")},
    Between: {"takes": "two-lists", "lists": ("muon_params", "adamw_params")},
    OfModel: {"takes": "model"},
    Guessed: {
        "arguments": {"eta": 0.1, "scale": 0.1, "exact": False, "warmup_steps": 100},
        "needs": (),
    },
    AsksClosure: {"closure": "with-arguments", "backward": "plain"},
    ReadsLoss: {"closure": "loss-alone"},
    OfList: {"takes": "parameter-list", "groups": False},
    AsksIfAny: {"closure": "with-arguments"},
    CallsBackward: {"closure": "required", "backward": "in-step", "groups": True},
}
"""Optimizer -> fields of its Subject that discovery must find."""
