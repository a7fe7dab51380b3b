"""The network families of the atlas. Importing this imports neither torch nor Hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

from frostproof.spec.architecture import Input
from frostproof.spec.layers import (
    GELU,
    GRU,
    LSTM,
    AnyLayer,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    RMSNorm,
    SelfAttention,
    Tanh,
    TiedLinear,
    TransformerEncoderLayer,
)

NetworkStart = tuple[Input, tuple[AnyLayer, ...]]


@dataclass(frozen=True)
class NetworkFamily:
    """Layers and inputs of one family's networks, the simplest first."""

    inputs: tuple[NetworkStart, ...]
    menus: dict[int, tuple[AnyLayer, ...]]
    """The layers that can follow, by the rank of a sample."""
    marks: tuple[type[Layer], ...]
    """Every network of the family has at least one layer of these types."""


_LINEAR: tuple[AnyLayer, ...] = (
    Linear(2, bias=False),
    Linear(2),
    Linear(3),
    Tanh(),
    ReLU(),
    GELU(),
    Dropout(0.2),
)
_VECTORS: tuple[NetworkStart, ...] = tuple((Input((width,)), ()) for width in (2, 3, 4))
_SEQUENCES: tuple[NetworkStart, ...] = tuple((Input(shape), ()) for shape in ((2, 3), (3, 4)))
_IMAGES: tuple[NetworkStart, ...] = tuple((Input(shape), ()) for shape in ((1, 3, 3), (2, 4, 4)))
_TOKENS: tuple[NetworkStart, ...] = tuple(
    (Input((tokens,), rows), (Embedding(rows, width),))
    for tokens, rows, width in ((2, 3, 2), (3, 5, 4))
)

FAMILIES: dict[str, NetworkFamily] = {
    "linear": NetworkFamily(_VECTORS, {1: _LINEAR}, (Linear,)),
    "normalized": NetworkFamily(
        _VECTORS,
        {
            1: (
                BatchNorm1d(),
                Linear(2),
                LayerNorm(),
                RMSNorm(),
                GroupNorm(1),
                BatchNorm1d(),
                Linear(3),
                ReLU(),
            )
        },
        (BatchNorm1d, LayerNorm, RMSNorm, GroupNorm),
    ),
    "convolutional": NetworkFamily(
        _IMAGES,
        {
            3: (
                Conv2d(2, 1),
                Conv2d(3, 3),
                Conv2d(2, 3, bias=False),
                BatchNorm2d(),
                ReLU(),
                MaxPool2d(),
                AvgPool2d(),
                Flatten(),
            ),
            1: _LINEAR,
        },
        (Conv2d,),
    ),
    "recurrent": NetworkFamily(
        _SEQUENCES, {2: (LSTM(2), GRU(3), LSTM(3), Linear(2), LayerNorm(), Tanh())}, (LSTM, GRU)
    ),
    "attention": NetworkFamily(
        _SEQUENCES,
        {
            2: (
                SelfAttention(1),
                TransformerEncoderLayer(1, 3),
                Linear(2),
                LayerNorm(),
                TransformerEncoderLayer(1, 3, dropout=0.2),
                GELU(),
            )
        },
        (SelfAttention, TransformerEncoderLayer),
    ),
    "embedding": NetworkFamily(
        _TOKENS,
        {2: (Linear(2), TiedLinear(3), LayerNorm(), Linear(3), Tanh(), Flatten()), 1: _LINEAR},
        (Embedding,),
    ),
}
