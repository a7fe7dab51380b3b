"""Optimizers that are built and stepped in other ways than most, as small as they can be, and right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer


class Plain(Optimizer):
    """Gradient descent; the others here say only what is different."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group)
        return loss

    def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        parameter.add_(gradient, alpha=-group["lr"])


class Sam(Plain):
    """Climbs along the gradient that it finds, has the closure compute another one, and descends along that."""

    def first_step(self) -> None:
        for parameter in self._owned():
            if parameter.grad is not None:
                self.state[parameter]["before"] = parameter.detach().clone()
                parameter.add_(parameter.grad, alpha=0.05)

    def second_step(self) -> None:
        for parameter in self._owned():
            if parameter.grad is not None:
                parameter.copy_(self.state[parameter]["before"]).add_(parameter.grad, alpha=-0.1)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is not None
        self.first_step()
        with torch.enable_grad():
            loss = closure()
        self.second_step()
        return loss

    def _owned(self) -> Iterable[nn.Parameter]:
        return (parameter for group in self.param_groups for parameter in group["params"])


class SecondOrder(Plain):
    """Differentiates the gradient once more."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        found = [
            (parameter, group["lr"]) for group in self.param_groups for parameter in group["params"]
        ]
        owned = [
            (parameter, lr)
            for parameter, lr in found
            if parameter.grad is not None and parameter.requires_grad
        ]
        if any(parameter.grad.grad_fn is None for parameter, _ in owned):
            raise RuntimeError("call backward with create_graph=True")
        curvatures = [
            torch.autograd.grad(
                parameter.grad.sum(), parameter, retain_graph=True, allow_unused=True
            )[0]
            for parameter, _ in owned
        ]
        with torch.no_grad():
            for (parameter, lr), curvature in zip(owned, curvatures, strict=True):
                scale = 1.0 if curvature is None else 1.0 / (1.0 + curvature.abs())
                parameter.add_(parameter.grad * scale, alpha=-lr)
        return loss


class Fused(Plain):
    """Updates each parameter while the backward pass runs, from a model."""

    def __init__(self, model: nn.Module, lr: float = 0.1) -> None:
        super().__init__(list(model.parameters()), lr)
        for parameter in self.param_groups[0]["params"]:
            flag = parameter.requires_grad
            parameter.requires_grad_(True).register_post_accumulate_grad_hook(
                self._fuse
            )  # of what may be thawed, too
            parameter.requires_grad_(flag)

    @torch.no_grad()
    def _fuse(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.add_(parameter.grad, alpha=-self.param_groups[0]["lr"])
        parameter.grad = None

    def fused_backward(self, loss: Tensor, lr: float) -> None:
        self.param_groups[0]["lr"] = lr
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return None


class Named(Plain):
    """Wants to know what its parameters are called."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        if any("param_names" not in group for group in self.param_groups):
            raise ValueError("pass named_parameters()")


class Keyed(Plain):
    """Wants to be told which groups hold matrices."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        if any("use_muon" not in group for group in self.param_groups):
            raise ValueError("`use_muon` must be set")

    def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        super().update(parameter, gradient.sign() if group["use_muon"] else gradient, group)


class Wrapping(Optimizer):
    """Steps the optimizer that it wraps."""

    def __init__(self, optimizer: Optimizer, k: int = 2) -> None:
        self.optimizer = optimizer
        super().__init__(
            [parameter for group in optimizer.param_groups for parameter in group["params"]], {}
        )
        self.param_groups = optimizer.param_groups

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return self.optimizer.step(closure) if closure is not None else self.optimizer.step()


class BaseClass(Plain):
    """Takes the class of another optimizer, and has required arguments that it makes up no values for."""

    def __init__(
        self,
        params: Any,
        base_optimizer: type[Optimizer],
        num_iterations: int,
        betas: tuple[float, ...] = (0.9, 0.9, 0.99),
    ) -> None:
        if num_iterations < 1 or len(betas) != 3:
            raise ValueError("num_iterations must be positive, betas three")
        super().__init__(params)
        assert base_optimizer is SGD


class NeedsMomentum(Plain):
    """Has a default that it does not support."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0) -> None:
        if momentum == 0.0:
            raise NotImplementedError("momentum is needed")
        super().__init__(params, lr)


class WarmsUp(Plain):
    """Moves nothing in its first steps."""

    def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        state["step"] = state.get("step", 0) + 1
        if state["step"] > 5:
            super().update(parameter, gradient, group)


class ClearsItsWay(Plain):
    """Its zero_grad takes no argument."""

    def zero_grad(self) -> None:  # type: ignore[override]
        super().zero_grad()


class Moded(Plain):
    """Trains weights whose running average it puts in their place while it is told to evaluate."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        Optimizer.__init__(self, params, {"lr": lr, "training": False})

    def train(self) -> None:
        self._switch(training=True)

    def eval(self) -> None:
        self._switch(training=False)

    @torch.no_grad()
    def _switch(self, *, training: bool) -> None:
        for group in self.param_groups:
            for parameter in group["params"] if group["training"] != training else ():
                if parameter in self.state:
                    parameter.copy_(self.state[parameter]["trained" if training else "average"])
            group["training"] = training

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if not all(group["training"] for group in self.param_groups):
            raise RuntimeError("call train() before step()")
        return super().step(closure)

    def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        if "average" not in state:
            state["average"] = parameter.clone()
        super().update(parameter, gradient, group)
        state["trained"] = parameter.clone()
        state["average"].lerp_(parameter, 0.5)


class ClosureRequired(Plain):
    """Cannot step without a closure, which it calls once."""

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        return super().step(closure)


class OwnGroups(Plain):
    """Makes a group of its own for each number of dimensions."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.param_groups = [
            {
                **group,
                "params": [
                    parameter for parameter in group["params"] if parameter.ndim == dimensions
                ],
            }
            for group in self.param_groups
            for dimensions in sorted({parameter.ndim for parameter in group["params"]})
        ]


class World(Plain):
    """Updates what falls to its rank."""

    def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        if parameter.numel() % torch.distributed.get_world_size() == torch.distributed.get_rank():
            super().update(parameter, gradient, group)


class TwoLists(Plain):
    """Takes matrices and all other parameters apart, and updates them in two ways."""

    def __init__(
        self, muon_params: Iterable[Tensor], adamw_params: Iterable[Tensor], lr: float = 0.1
    ) -> None:
        both = [
            {"params": [*muon_params], "matrices": True},
            {"params": [*adamw_params], "matrices": False},
        ]
        super().__init__([group for group in both if group["params"]], lr)
        if any(
            parameter.ndim != 2
            for group in self.param_groups
            if group["matrices"]
            for parameter in group["params"]
        ):
            raise ValueError("the first list is for matrices")

    def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        super().update(parameter, gradient.sign() if group["matrices"] else gradient, group)


class OneDtype(Plain):
    """Trains parameters of one dtype."""

    def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        assert parameter.dtype == torch.bfloat16
        super().update(parameter, gradient, group)


class WantsNumbers(Plain):
    """Cannot do without numbers for which it has no default but None."""

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        num_epochs: int | None = None,
        num_batches_per_epoch: int | None = None,
    ) -> None:
        super().__init__(params, lr)
        self.steps = num_epochs * num_batches_per_epoch  # type: ignore[operator]


class OnlyCapturable(Plain):
    """Chooses between implementations by `capturable` alone."""

    def __init__(self, params: Any, lr: float = 0.1, *, capturable: bool = False) -> None:
        super().__init__(params, lr)


PROTOCOLS: dict[type[Optimizer], dict[str, Any]] = {
    Plain: {
        "takes": "parameters",
        "closure": "optional",
        "backward": "plain",
        "patience": 1,
        "modes": False,
        "distributed": False,
    },
    Sam: {"closure": "after-backward"},
    SecondOrder: {"backward": "create-graph"},
    Fused: {"takes": "model", "backward": "fused"},
    Named: {"takes": "named-parameters"},
    Keyed: {"takes": "parameters", "per_parameter": True},
    Wrapping: {"takes": "optimizer"},
    BaseClass: {"arguments": {"base_optimizer": SGD, "num_iterations": 100}},
    NeedsMomentum: {"arguments": {"momentum": 0.9}},
    WarmsUp: {"patience": 6},
    ClearsItsWay: {"unable": ("set_to_none",)},
    Moded: {"modes": True, "per_parameter": True, "groups": True},
    ClosureRequired: {"closure": "required"},
    OwnGroups: {"per_parameter": False, "groups": True},
    World: {"distributed": True, "dtypes": ("float32", "float64", "bfloat16")},
    TwoLists: {
        "takes": "two-lists",
        "parameters": "any",
        "groups": False,
        "per_parameter": False,
        "needs": (),
    },
    OneDtype: {"dtypes": ("bfloat16",)},
    WantsNumbers: {"arguments": {"num_epochs": 10, "num_batches_per_epoch": 10}},
    OnlyCapturable: {"variant": "default", "arguments": {}},
}
"""Optimizer -> fields of its Subject that discovery must find."""
