"""Models with frozen parts, whose costs the tests count and work out by formulas."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from frostproof.applications.costs.chart import backward_products_a
from frostproof.applications.costs.task import CostTask
from tests.helpers import byhand, models

ROWS, WIDTH = 3, 4
PRODUCT, ACTIVATION, WEIGHT = 2 * ROWS * WIDTH**2, 4 * ROWS * WIDTH, 4 * WIDTH**2


def subsets(items: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """All but the empty one."""
    return chain.from_iterable(combinations(items, size) for size in range(1, len(items) + 1))


def mlp(
    layers: int, between: Callable[[], nn.Module] | None = None, bias: bool = True
) -> nn.Sequential:
    stack: list[nn.Module] = []
    for number in range(layers):
        stack += [between()] if between and number else []
        stack.append(nn.Linear(WIDTH, WIDTH, bias=bias))
    return nn.Sequential(*stack)


Between = Literal["ReLU", "GELU", "none"]
"""The activation function between two layers: ReLU saves its output, GELU its input."""


def saved_a(layers: int, trainable: Collection[int], between: Between) -> int:
    """The activations that A saves, including the batch, in a row of equal linear layers.

    A trainable layer needs its input, and each activation function above the lowest trainable layer
    needs what it saves. The output of a ReLU is the input of the next layer, so the two share it.
    """
    if between == "none":
        return len(trainable)
    if between == "ReLU":
        return layers - min(trainable)
    return backward_products_a(layers, trainable)


def weights_a(layers: int, trainable: Collection[int]) -> int:
    """The weights that A's graph refers to: those of the layers whose input needs a gradient."""
    return layers - 1 - min(trainable)


def task_training(model: nn.Sequential, layers: Sequence[int]) -> CostTask:
    """The task in which these of the linear layers train."""
    linear = [str(place) for place, module in enumerate(model) if isinstance(module, nn.Linear)]
    trained = {linear[layer] for layer in layers}
    frozen = frozenset(
        name for name, _ in model.named_parameters() if name.partition(".")[0] not in trained
    )
    return CostTask(model, (torch.randn(ROWS, WIDTH),), frozen)


def task_freezing(model: nn.Module, inputs: Any, *parts: str) -> CostTask:
    """The task in which what begins with one of `parts` is frozen."""
    return CostTask(
        model,
        (inputs,),
        frozenset(name for name, _ in model.named_parameters() if name.startswith(parts)),
    )


class Segments(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.below, self.inner, self.above = nn.Linear(4, 4), mlp(2, nn.ReLU), nn.Linear(4, 4)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.above(
            checkpoint(self.inner, self.below(x), use_reentrant=self.reentrant)
        )
        return found


REAL = {
    "resnet": (
        models.resnet,
        byhand.resnet,
        ("stem", "layer1.conv1", "layer1.bn1", "layer1.conv2", "layer2", "head"),
    ),
    "encoder": (
        models.encoder,
        byhand.encoder,
        (
            "encoder.layers.0.self_attn",
            "encoder.layers.0.linear1",
            "encoder.layers.0.norm",
            "encoder.layers.1.linear2",
            "head",
        ),
    ),
    "classifier": (
        models.classifier,
        byhand.classifier,
        ("embedding", "lstm.weight_ih", "lstm.weight_hh", "head"),
    ),
}
