"""What the costs of L equal `nn.Linear(d, d)` layers in a row come to, as formulas.

In units of one layer's matrix product (2 n d^2 FLOPs for a batch of n), and of one activation (n d numbers). Layers count
from 0; a bias changes nothing. `trainable` must not be empty.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Between = Literal["ReLU", "GELU", "none"]
"""The activation between two layers: one that saves its output, as Tanh does too, or its input, or none."""


def backward_a(layers: int, trainable: Collection[int]) -> int:
    """Matrix products of A's backward pass: a weight gradient for each layer that trains, and an input gradient for each
    layer above the lowest of them."""
    return len(trainable) + layers - 1 - min(trainable)


def backward_b(layers: int) -> int:
    """Those of B's, whatever is frozen: all weight gradients, and all input gradients but that of the batch."""
    return 2 * layers - 1


def saved_a(layers: int, trainable: Collection[int], between: Between) -> int:
    """Activations that A saves, the batch among them.

    A layer that trains needs its input, and each activation function above the lowest of these needs what it saves. ReLU
    saves the very tensor that is the next layer's input, so that freezing what is above the lowest spares nothing.
    """
    if between == "none":
        return len(trainable)
    if between == "ReLU":
        return layers - min(trainable)
    return backward_a(layers, trainable)


def saved_b(layers: int, between: Between) -> int:
    """Those that B saves, whatever is frozen."""
    return saved_a(layers, range(layers), between)


def weights_a(layers: int, trainable: Collection[int]) -> int:
    """Weights that A's graph refers to: those of the layers whose input needs a gradient."""
    return layers - 1 - min(trainable)
