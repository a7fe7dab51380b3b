"""A task: a model, what goes in, and what of it is frozen, of which the costs are counted."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from frostproof.errors import UsageError, one_line


@dataclass(frozen=True)
class CostTask:
    """`inputs`: positional arguments of the model. `frozen`: names of parameters, as `model.named_parameters()` has them."""

    model: nn.Module
    inputs: tuple[Any, ...]
    frozen: frozenset[str]

    @cached_property
    def trainable(self) -> tuple[str, ...]:
        """Names of what is not frozen, in the order of the model."""
        return tuple(name for name, _ in self.model.named_parameters() if name not in self.frozen)

    def thawed(self) -> nn.Module:
        """A copy of the model in which each parameter that can require grad does. Raises UsageError."""
        try:
            model = copy.deepcopy(self.model)
        except Exception as error:  # whatever a module makes of it
            raise UsageError(
                f"the model cannot be copied ({one_line(f'{type(error).__name__}: {error}', 200)}): make copy.deepcopy(model) work"
            ) from None
        for parameter in model.parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        return model


def split_parameters(
    model: nn.Module, frozen: Collection[str]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that are frozen, and those that are not."""
    named = dict(model.named_parameters())
    return [p for name, p in named.items() if name in frozen], [
        p for name, p in named.items() if name not in frozen
    ]


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in nested containers, in order."""
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor)]


def mean_square_loss(outputs: Any) -> Tensor:
    """The mean of the squares of all floating tensors among the outputs. Raises UsageError where there is none."""
    found = [each for each in tensors_in(outputs) if each.is_floating_point()]
    if not found:
        raise UsageError(
            f"the model returns {type(outputs).__name__} without a floating tensor: let it return what is trained on"
        )
    return torch.stack([each.square().mean().float() for each in found]).mean()
