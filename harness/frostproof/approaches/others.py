"""The ways in which people freeze layers, as approaches of the one trial.

Each freezes the same parameters for a whole training. A script prints their methods, so these are
plain torch. Their docstrings are shown to people, in scripts and in the atlas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frostproof.approaches.approach import (
    AllOwned,
    Approach,
    OptimizerSubset,
    Parameters,
    RequiresGrad,
    SubsetSecondOptimizer,
)
from frostproof.spec.case import Case
from frostproof.spec.subject import Subject


@dataclass(frozen=True)
class RequiresGradLate(RequiresGrad):
    """Build the optimizer with all parameters, then set requires_grad=False on frozen ones."""

    name: str = "A-late"
    late: bool = True


@dataclass(frozen=True)
class Prefix(AllOwned):
    """All parameters to the optimizer; the layers before the first that trains run apart."""

    def unfit(self, case: Case, subject: Subject) -> str:
        frozen, trains = set(case.initially_frozen), False
        for place in case.architecture.places:
            trains = trains or not frozen.issuperset(place.uses)
            if trains and not frozen.isdisjoint(place.uses):
                return "it freezes nothing but whole layers before the first that trains"
        return ""


@dataclass(frozen=True)
class NoGradPrefix(Prefix):
    """Run the first, frozen layers under `torch.no_grad()`; all parameters to the optimizer."""

    name: str = "no-grad-prefix"

    def forward(self, model: nn.Sequential, samples: Tensor, frozen: Parameters) -> Tensor:
        n = untrained(model, frozen)
        with torch.no_grad():
            samples = model[:n](samples)
        outputs: Tensor = model[n:](samples)
        return outputs


@dataclass(frozen=True)
class DetachedPrefix(Prefix):
    """Detach the output of the first, frozen layers; all parameters to the optimizer."""

    name: str = "detach"

    def forward(self, model: nn.Sequential, samples: Tensor, frozen: Parameters) -> Tensor:
        n = untrained(model, frozen)
        outputs: Tensor = model[n:](model[:n](samples).detach())
        return outputs


@dataclass(frozen=True)
class InferencePrefix(Prefix):
    """Run the first, frozen layers under `torch.inference_mode()`; all to the optimizer."""

    name: str = "inference-prefix"

    def forward(self, model: nn.Sequential, samples: Tensor, frozen: Parameters) -> Tensor:
        n = untrained(model, frozen)
        with torch.inference_mode():
            samples = model[:n](samples)
        outputs: Tensor = model[n:](samples)
        return outputs


def untrained(model: nn.Sequential, frozen: Parameters) -> int:
    """How many layers come before the first that trains."""
    known = {id(p) for p in frozen}
    return next(
        n for n, layer in enumerate(model) if any(id(p) not in known for p in layer.parameters())
    )


@dataclass(frozen=True)
class ZeroRate(AllOwned):
    """Put the frozen parameters into a parameter group of their own with lr=0."""

    name: str = "lr-zero"

    def unfit(self, case: Case, subject: Subject) -> str:
        return "" if subject.groups else "the optimizer takes one parameter group"

    def options(self, frozen: bool) -> Mapping[str, Any]:
        return {"lr": 0.0} if frozen else {}


@dataclass(frozen=True)
class ZeroingHook(AllOwned):
    """Zero each frozen parameter's gradient in a hook; all parameters to the optimizer."""

    name: str = "hook-zeros"

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        for p in frozen:
            p.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class GradientsDropped(AllOwned):
    """Set frozen parameters' gradients to None after backward; all to the optimizer."""

    name: str = "grad-none"

    def after_backward(self, frozen: Parameters) -> None:
        for p in frozen:
            p.grad = None


@dataclass(frozen=True)
class WeightsRestored(AllOwned):
    """Copy the old values of frozen parameters back after each step; all to the optimizer."""

    name: str = "restore"

    def begin(self, frozen: Parameters) -> list[Tensor]:
        return [p.detach().clone() for p in frozen]

    def end(self, frozen: Parameters, kept: list[Tensor]) -> None:
        with torch.no_grad():
            for p, old in zip(frozen, kept):  # noqa: B905  a script has no need of it
                p.copy_(old)


@dataclass(frozen=True)
class BackwardInputs(AllOwned):
    """Call `loss.backward(inputs=trainable)`; all parameters to the optimizer."""

    name: str = "backward-inputs"

    def backward(self, loss: Tensor, trainable: Parameters) -> None:
        loss.backward(inputs=trainable)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Functional(AllOwned):
    """Differentiate only by trainable parameters with torch.func; all to the optimizer."""

    name: str = "func"

    def forward(self, model: nn.Sequential, samples: Tensor, frozen: Parameters) -> Tensor:
        known = {id(p) for p in frozen}
        fixed = {name: p.detach() for name, p in model.named_parameters() if id(p) in known}
        free = {name: p for name, p in model.named_parameters() if id(p) not in known}

        def run(values: dict[str, Tensor]) -> Any:
            return torch.func.functional_call(model, {**fixed, **values}, (samples,))

        result: Any = torch.func.vjp(run, {name: p.detach() for name, p in free.items()})
        outputs, pull = result

        def accumulate(gradient: Tensor) -> None:
            for name, each in pull(gradient)[0].items():
                p = free[name]
                p.grad = each if p.grad is None else p.grad + each

        found: Tensor = outputs.detach().requires_grad_()
        found.register_hook(accumulate)  # type: ignore[no-untyped-call]
        return found


@dataclass(frozen=True)
class Buffers(OptimizerSubset):
    """Turn the frozen parameters into buffers; all remaining parameters to the optimizer."""

    name: str = "buffers"

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        known = {id(p) for p in frozen}
        for module in model.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                if id(p) in known:
                    delattr(module, name)
                    module.register_buffer(name, p.detach())


WAYS: tuple[Approach, ...] = (
    RequiresGrad(),
    RequiresGradLate(),
    NoGradPrefix(),
    DetachedPrefix(),
    InferencePrefix(),
    Functional(),
    Buffers(),
    BackwardInputs(),
    GradientsDropped(),
    OptimizerSubset(),
    SubsetSecondOptimizer(),
    WeightsRestored(),
    ZeroRate(),
    ZeroingHook(),
)
"""In the order in which the atlas shows them: first the ways in which the optimizer receives no
gradients of frozen parameters."""
