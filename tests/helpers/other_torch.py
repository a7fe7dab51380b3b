"""Changes of torch's behaviour, planted one at a time, which the claims depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostproof_properties.facts import OPTIMIZER_NAMES

Plant = Callable[[pytest.MonkeyPatch], None]


def _steps(patch: pytest.MonkeyPatch, change: Callable[[Any], Any], names: list[str]) -> None:
    for name in names:
        kind: Any = getattr(torch.optim, name)
        patch.setattr(kind, "step", change(kind.step))


def _parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def checks_requires_grad(patch: pytest.MonkeyPatch, names: list[str] = OPTIMIZER_NAMES) -> None:
    """Optimizers pass over what does not require grad."""

    def change(step: Any) -> Any:
        def checked(self: Optimizer, closure: Any = None) -> Any:
            frozen = [(each, each.grad) for each in _parameters(self) if not each.requires_grad]
            for each, _ in frozen:
                each.grad = None
            loss = step(self, closure)
            for each, gradient in frozen:
                each.grad = gradient
            return loss

        return checked

    _steps(patch, change, names)


def sgd_checks_requires_grad(patch: pytest.MonkeyPatch) -> None:
    """SGD alone passes over what does not require grad."""
    checks_requires_grad(patch, ["SGD"])


def decays_everything(patch: pytest.MonkeyPatch) -> None:
    """Optimizers decay what has no gradient, too."""

    def change(step: Any) -> Any:
        def decaying(self: Optimizer, closure: Any = None) -> Any:
            loss = step(self, closure)
            for each in _parameters(self):
                each.data.mul_(0.9)
            return loss

        return decaying

    _steps(patch, change, OPTIMIZER_NAMES)


def never_steps(patch: pytest.MonkeyPatch) -> None:
    """Optimizers do nothing."""
    _steps(patch, lambda step: lambda self, closure=None: None, OPTIMIZER_NAMES)


def zeroes_nothing(patch: pytest.MonkeyPatch) -> None:
    """zero_grad of an optimizer does nothing."""
    patch.setattr(Optimizer, "zero_grad", lambda self, set_to_none=True: None)


def clips_nothing(patch: pytest.MonkeyPatch) -> None:
    """clip_grad_norm_ measures the norm, and scales nothing."""
    clip = nn.utils.clip_grad_norm_
    patch.setattr(
        nn.utils, "clip_grad_norm_", lambda parameters, limit: clip(parameters, float("inf"))
    )


def _leaves(node: Any) -> list[Tensor]:
    """The leaves of a graph that require grad."""
    if node is None:
        return []
    own = [node.variable] if hasattr(node, "variable") else []
    return [*own, *(leaf for below, _ in node.next_functions for leaf in _leaves(below))]


def leftovers_count(patch: pytest.MonkeyPatch) -> None:
    """Gradients that are there before it make a backward pass larger."""
    backward: Any = Tensor.backward

    def counting(self: Tensor, **given: Any) -> None:
        backward(self * (1 + sum(leaf.grad is not None for leaf in _leaves(self.grad_fn))), **given)

    patch.setattr(Tensor, "backward", counting)


def replaces_gradients(patch: pytest.MonkeyPatch) -> None:
    """A backward pass replaces gradients, and does not add to them."""
    backward: Any = Tensor.backward

    def replacing(self: Tensor, **given: Any) -> None:
        for leaf in _leaves(self.grad_fn):
            leaf.grad = None
        backward(self, **given)

    patch.setattr(Tensor, "backward", replacing)


def trains_by_itself(patch: pytest.MonkeyPatch) -> None:
    """A backward pass updates every leaf."""
    backward: Any = Tensor.backward

    def training(self: Tensor, **given: Any) -> None:
        backward(self, **given)
        for leaf in _leaves(self.grad_fn):
            if leaf.grad is not None:
                leaf.data.sub_(leaf.grad)

    patch.setattr(Tensor, "backward", training)


def raises_nothing(patch: pytest.MonkeyPatch) -> None:
    """A backward pass without a graph does nothing."""
    backward: Any = Tensor.backward
    patch.setattr(
        Tensor,
        "backward",
        lambda self, **given: backward(self, **given) if self.requires_grad else None,
    )


def ignores_inputs(patch: pytest.MonkeyPatch) -> None:
    """backward(inputs=...) computes all gradients."""
    backward: Any = Tensor.backward
    patch.setattr(Tensor, "backward", lambda self, inputs=None: backward(self))


def ignores_requires_grad(patch: pytest.MonkeyPatch) -> None:
    """Every parameter requires grad, whatever it is told."""
    patch.setattr(
        nn.Parameter,
        "requires_grad",
        property(lambda self: True, lambda self, value: None),
        raising=False,
    )
