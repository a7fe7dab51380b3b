"""A model, its inputs, and its frozen parameters: the task whose costs are counted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from frostproof.errors import UsageError, one_line
from frostproof.spec.layers.modules import mean_square


@dataclass(frozen=True)
class CostTask:
    model: nn.Module
    inputs: tuple[Any, ...]
    """The positional arguments of the model."""
    frozen: frozenset[str]
    """Names of parameters, as in `model.named_parameters()`."""
    step: Callable[..., Any] | None = None
    """Returns the loss of a model on the inputs. By default that is the mean of the squares of its
    outputs."""

    def outputs(self, model: nn.Module) -> Any:
        """The forward pass of a copy of the model."""
        return model(*self.inputs) if self.step is None else self.step(model, *self.inputs)

    def loss(self, outputs: Any) -> Tensor:
        """The loss of these outputs. Raises UsageError if there is none."""
        if self.step is None:
            return mean_square_loss(outputs)
        if not isinstance(outputs, Tensor) or outputs.dim():
            kind = one_line(repr(outputs), 80)
            raise UsageError(f"the training step returns {kind}: let it return the loss, a number")
        return outputs

    @cached_property
    def trainable(self) -> tuple[str, ...]:
        """The names of the other parameters, in the order of the model."""
        return tuple(name for name, _ in self.model.named_parameters() if name not in self.frozen)

    def thawed(self) -> nn.Module:
        """A copy of the model in which every parameter that can require grad does.

        Raises UsageError if the model cannot be copied.
        """
        try:
            model = copy.deepcopy(self.model)
        except Exception as error:  # a module may raise anything
            text = one_line(f"{type(error).__name__}: {error}", 200)
            raise UsageError(
                f"the model cannot be copied ({text}): make copy.deepcopy(model) work"
            ) from None
        for parameter in model.parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        return model


def split_parameters(
    model: nn.Module, frozen: Collection[str]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The frozen parameters, and the trainable ones."""
    named = dict(model.named_parameters())
    trainable = [parameter for name, parameter in named.items() if name not in frozen]
    return [parameter for name, parameter in named.items() if name in frozen], trainable


def tensor_leaves(tree: Any) -> list[Tensor]:
    """The tensors in nested containers, in order."""
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor)]


def mean_square_loss(outputs: Any) -> Tensor:
    """The mean of the squares of all floating-point tensors in the outputs.

    Raises UsageError if there is none.
    """
    if not any(each.is_floating_point() for each in tensor_leaves(outputs)):
        raise UsageError(
            f"the model returns {type(outputs).__name__} without a floating-point tensor: let it "
            "return what is trained on"
        )
    return mean_square(outputs)
