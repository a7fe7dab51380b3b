"""Correct optimizers, as small as they can be, that are built and stepped in unusual ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from tests.helpers.broken import Sound


class Plain(Sound):
    """Gradient descent. The other classes here say only what is different.

    Each calls `super()`, so that a class with a protocol and a planted bug for bases has both.
    """

    def __init__(self, params: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, lr=lr, **options)

    # torch gives the class of each new optimizer a step() of its own. Where this class had none,
    # it would be the one of Sound, and hide that of a base that comes between the two.
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return super().step(closure)

    @property
    def owned(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class Sam(Plain):
    """Climbs along the gradient, and descends along the one that its closure computes there."""

    @torch.no_grad()
    def first_step(self) -> None:
        self.before = [(p, p.detach().clone()) for p in self.owned if p.grad is not None]
        for parameter, _ in self.before:
            parameter.add_(parameter.grad, alpha=0.05)  # type: ignore[arg-type]

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter, weights in self.before:
            parameter.copy_(weights)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is not None
        evaluate = closure
        self.first_step()

        def descend() -> Any:
            loss = evaluate()
            self.second_step()
            return loss

        return super().step(descend)


class SecondOrder(Plain):
    """Differentiates the gradient once more."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None:
            self.differentiate()
            return super().step()
        evaluate = closure

        def differentiated() -> Any:
            loss = evaluate()
            self.differentiate()
            return loss

        return super().step(differentiated)

    def differentiate(self) -> None:
        self.curvatures = {}
        for p in self.owned:
            if p.grad is None or not p.requires_grad:
                continue
            if p.grad.grad_fn is None:
                raise RuntimeError("call backward with create_graph=True")
            (curvature,) = torch.autograd.grad(
                p.grad.sum(), p, retain_graph=True, allow_unused=True
            )
            self.curvatures[p] = torch.zeros_like(p) if curvature is None else curvature

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        curvature = self.curvatures.get(parameter, torch.zeros_like(parameter))
        super().update(group, parameter, gradient / (1.0 + curvature.abs()), scale)


class Fused(Plain):
    """Takes a model, and updates each parameter while the backward pass runs."""

    def __init__(self, model: nn.Module, lr: float = 0.1, **options: Any) -> None:
        super().__init__(list(model.parameters()), lr, **options)
        self.places = {parameter: place for place, parameter in enumerate(self.owned)}
        self.fused: set[Tensor] = set()
        for parameter in self.owned:
            flag = parameter.requires_grad  # a frozen parameter may be thawed later
            parameter.requires_grad_(True)
            parameter.register_post_accumulate_grad_hook(self._fuse)  # type: ignore[no-untyped-call]
            parameter.requires_grad_(flag)

    @torch.no_grad()
    def _fuse(self, parameter: Tensor) -> None:
        self.fused.add(parameter)
        self.visit(0, self.param_groups[0], self.places[parameter], parameter)
        parameter.grad = None

    def fused_backward(self, loss: Tensor, lr: float) -> None:
        self.param_groups[0]["lr"] = lr
        self.fused.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter, place in self.places.items():
                if parameter not in self.fused:
                    self.visit(0, self.param_groups[0], place, parameter)
            self.after()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return None


class Named(Plain):
    """Needs the names of its parameters."""

    def __init__(self, params: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, lr, **options)
        if any("param_names" not in group for group in self.param_groups):
            raise ValueError("pass named_parameters()")


class Keyed(Plain):
    """Needs to be told which groups hold matrices."""

    def __init__(self, params: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, lr, **options)
        if any("use_muon" not in group for group in self.param_groups):
            raise ValueError("`use_muon` must be set")

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        gradient = gradient.sign() if group["use_muon"] else gradient
        super().update(group, parameter, gradient, scale)


class Wrapping(Optimizer):
    """Wraps another optimizer, and leaves everything to that."""

    def __init__(self, optimizer: Optimizer, k: int = 2, **options: Any) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.update(options)
        owned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        super().__init__(owned, {})
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return self.optimizer.step(closure) if closure is not None else self.optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)
        self.param_groups, self.state = self.optimizer.param_groups, self.optimizer.state


class BaseClass(Plain):
    """Takes the class of another optimizer, and required arguments for which it has no defaults."""

    def __init__(
        self,
        params: Any,
        base_optimizer: type[Optimizer],
        num_iterations: int,
        betas: tuple[float, ...] = (0.9, 0.9, 0.99),
        **options: Any,
    ) -> None:
        if num_iterations < 1 or len(betas) != 3:
            raise ValueError("num_iterations must be positive, betas three")
        super().__init__(params, **options)
        assert base_optimizer is SGD


class NeedsMomentum(Plain):
    """Does not support its own default."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0, **options: Any) -> None:
        if momentum == 0.0:
            raise NotImplementedError("momentum is needed")
        super().__init__(params, lr, momentum=momentum, **options)


class WarmsUp(Plain):
    """Moves nothing in its first steps."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        state["step"] = state.get("step", 0) + 1
        if state["step"] > 5:
            super().update(group, parameter, gradient, scale)


class ClearsItsWay(Plain):
    """Its zero_grad takes no argument."""

    def zero_grad(self) -> None:  # type: ignore[override]
        super().zero_grad()


class Moded(Plain):
    """Trains weights, and puts their running average in their place in eval mode."""

    def __init__(self, params: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, lr, **options)
        self.defaults["training"] = False
        for group in self.param_groups:
            group["training"] = False

    def train(self) -> None:
        self._switch(training=True)

    def eval(self) -> None:
        self._switch(training=False)

    @torch.no_grad()
    def _switch(self, *, training: bool) -> None:
        for group in self.param_groups:
            for parameter in group["params"] if group["training"] != training else ():
                if "average" in self.state.get(parameter, {}):
                    parameter.copy_(self.state[parameter]["trained" if training else "average"])
            group["training"] = training

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if not all(group["training"] for group in self.param_groups):
            raise RuntimeError("call train() before step()")
        return super().step(closure)

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state = self.state[parameter]
        if "average" not in state:
            state["average"] = parameter.clone()
        super().update(group, parameter, gradient, scale)
        state["trained"] = parameter.clone()
        state["average"].lerp_(parameter, 0.5)


class ClosureRequired(Plain):
    """Cannot step without a closure, which it calls once."""

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        return super().step(closure)


class OwnGroups(Plain):
    """Makes a group of its own for each number of dimensions."""

    def __init__(self, params: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, lr, **options)
        self.param_groups = [
            {**group, "params": [p for p in group["params"] if p.ndim == dimensions]}
            for group in self.param_groups
            for dimensions in sorted({p.ndim for p in group["params"]})
        ]


class World(Plain):
    """Updates the parameters that belong to its rank."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        if parameter.numel() % torch.distributed.get_world_size() == torch.distributed.get_rank():
            super().update(group, parameter, gradient, scale)


class TwoLists(Plain):
    """Takes the matrices and all other parameters in two lists, and updates them in two ways."""

    def __init__(
        self,
        muon_params: Iterable[Tensor],
        adamw_params: Iterable[Tensor],
        lr: float = 0.1,
        **options: Any,
    ) -> None:
        both = [
            {"params": [*muon_params], "matrices": True},
            {"params": [*adamw_params], "matrices": False},
        ]
        super().__init__([group for group in both if group["params"]], lr, **options)
        if any(p.ndim != 2 for g in self.param_groups if g["matrices"] for p in g["params"]):
            raise ValueError("the first list is for matrices")

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        gradient = gradient.sign() if group["matrices"] else gradient
        super().update(group, parameter, gradient, scale)


class OneDtype(Plain):
    """Trains parameters of one dtype."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        assert parameter.dtype == torch.bfloat16
        super().update(group, parameter, gradient, scale)


class WantsNumbers(Plain):
    """Cannot do without numbers whose only default is None."""

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        num_epochs: int | None = None,
        num_batches_per_epoch: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, **options)
        self.total = num_epochs * num_batches_per_epoch  # type: ignore[operator]


class OnlyCapturable(Plain):
    """Chooses between implementations by `capturable` alone."""

    def __init__(
        self, params: Any, lr: float = 0.1, *, capturable: bool = False, **options: Any
    ) -> None:
        super().__init__(params, lr, **options)


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
