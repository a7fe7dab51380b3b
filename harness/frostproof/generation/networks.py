"""Networks to draw: menus of inputs and layers, and how numbers become a network that fits.

Menus go from simple to complex, because integers shrink to 0. A layer is read from the menu for the
shape that it receives, so that nothing has to be filtered out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod

from frostproof.spec.architecture import Input
from frostproof.spec.layers import (
    GELU,
    GRU,
    LSTM,
    AdaptiveAvgPool2d,
    AnyLayer,
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Checkpointed,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    EmbeddingBag,
    Flatten,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    Linear,
    LoRALinear,
    MaxPool1d,
    MaxPool2d,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    SelfAttention,
    Sequential,
    Shape,
    SpectralNormLinear,
    Tanh,
    TiedLinear,
    TransformerEncoderLayer,
    WeightNormLinear,
)
from frostproof.spec.subject import ParameterKind

WIDE = 67
"""A width above 64 that is not a multiple of any vector register's width."""

ACTIVATIONS: tuple[AnyLayer, ...] = (
    Tanh(),
    GELU(),
    ReLU(),
    ReLU(inplace=True),
    Dropout(),
    Dropout(0.2),
)
NORMS: tuple[AnyLayer, ...] = (LayerNorm(), RMSNorm(), GroupNorm(1), GroupNorm(2))
TIED: tuple[AnyLayer, ...] = (TiedLinear(2, bias=False), TiedLinear(2))
COMPOSITES: tuple[AnyLayer, ...] = (
    Residual((Linear(2), Tanh())),
    Checkpointed((LayerNorm(), Linear(2))),
    Checkpointed((Linear(3), Dropout(), Tanh()), reentrant=True),
)
"""They have no layer that a second forward pass changes, such as batch norm or max_norm."""

VECTOR: tuple[AnyLayer, ...] = (
    *(Linear(width, bias) for width in (2, 1, 3, 5) for bias in (False, True)),
    *(Linear(width) for width in (2, 3, 4, 6, WIDE)),
    *ACTIVATIONS,
    PReLU(),
    *NORMS,
    *[BatchNorm1d()] * 5,
    *TIED,
    *(WeightNormLinear(3, legacy) for legacy in (False, True)),
    *(SpectralNormLinear(3, legacy) for legacy in (False, True)),
    LoRALinear(3, rank=2),
    LoRALinear(3, rank=0),
    *COMPOSITES,
)
SEQUENCE: tuple[AnyLayer, ...] = (
    Flatten(),
    *(
        Conv1d(channels, kernel, bias=bias)
        for channels, kernel in ((2, 1), (3, 3))
        for bias in (False, True)
    ),
    Conv1d(2, 3, stride=2),
    Conv1d(WIDE),
    Linear(2),
    Linear(3, bias=False),
    *ACTIVATIONS,
    PReLU(),
    *NORMS,
    *[BatchNorm1d()] * 5,
    *[MaxPool1d()] * 2,
    *[AvgPool1d()] * 2,
    *(ConvTranspose1d(channels, 3, stride) for channels, stride in ((2, 1), (3, 2))),
    *[InstanceNorm1d()] * 2,
    *TIED,
    LSTM(2),
    LSTM(3),
    GRU(2),
    GRU(3),
    SelfAttention(2),
    SelfAttention(1),
    *[TransformerEncoderLayer(2, 3, dropout=0.2)] * 2,
    *COMPOSITES,
)
IMAGE: tuple[AnyLayer, ...] = (
    Flatten(),
    *(
        Conv2d(channels, kernel, bias=bias)
        for channels, kernel in ((2, 1), (3, 3))
        for bias in (False, True)
    ),
    Conv2d(2, 3, stride=2),
    Conv2d(WIDE, stride=2),
    *ACTIVATIONS,
    PReLU(),
    *NORMS,
    *[BatchNorm2d()] * 5,
    *[MaxPool2d()] * 2,
    *[AvgPool2d()] * 2,
    AdaptiveAvgPool2d(),
    AdaptiveAvgPool2d(2),
    *(ConvTranspose2d(channels, 3, stride) for channels, stride in ((2, 1), (3, 2))),
    *[InstanceNorm2d()] * 2,
    Residual((GroupNorm(), Conv2d(2, 3))),
    Checkpointed((Conv2d(2), GELU())),
)
MENUS = {1: VECTOR, 2: SEQUENCE, 3: IMAGE}
"""Number of dimensions of one sample -> layers that can take it, once they are `fitted`."""

GENES = 214
"""Genes are integers below it, larger than any menu, so that all entries are about as likely.

With those that end a list, they are numbers below 256."""


def _input(
    shape: Shape, *first: AnyLayer, vocabulary: int = 0
) -> tuple[Input, tuple[AnyLayer, ...]]:
    return Input(shape, vocabulary), first


INPUTS: tuple[tuple[Input, tuple[AnyLayer, ...]], ...] = (
    *(_input((width,)) for width in (2, 1, 3, 4, 6, WIDE)),
    _input((2, 3)),
    _input((3, 4)),
    _input((1, 3, 3)),
    _input((2, 4, 4)),
    _input((3, 2, 2)),
    _input((2,), Embedding(3, 2), vocabulary=3),
    _input((3,), Embedding(5, 4), vocabulary=5),
    _input((2,), Embedding(3, 2, max_norm=0.5), vocabulary=3),
    _input((2,), EmbeddingBag(3, 2, "sum"), vocabulary=3),
    _input((3,), EmbeddingBag(5, 4), vocabulary=5),
)
FLAT_INPUTS = tuple(start for start in INPUTS if len(start[0].shape) == 1)
SPARSE_INPUTS = (
    *(
        _input((tokens,), Embedding(rows, width, sparse=True), vocabulary=rows)
        for tokens, rows, width in ((1, 1, 1), (1, 2, 1), (2, 3, 2), (3, 5, 4), (2, WIDE, WIDE))
    ),
    _input((2,), EmbeddingBag(3, 2, "sum", sparse=True), vocabulary=3),
    _input((3,), EmbeddingBag(5, 4, sparse=True), vocabulary=5),
)
INPUTS_OF: dict[ParameterKind, tuple[tuple[Input, tuple[AnyLayer, ...]], ...]] = {
    "any": INPUTS,
    "up-to-2d": FLAT_INPUTS,
    "matrices": FLAT_INPUTS,
    "sparse": SPARSE_INPUTS,
}

DRAWN_MAX_LAYERS = 8
"""The largest number of drawn layers."""

COMPILED_MAX_LAYERS = 4
"""The same where the model and the step are compiled, for each mask anew: a trial of many
parameters would take as long as ten others."""


def layers_from(
    genes: Sequence[int],
    shape: Shape,
    first: Sequence[AnyLayer],
    menus: Mapping[int, Sequence[AnyLayer]],
) -> tuple[AnyLayer, ...]:
    """The layers that `genes` encode, each read from the menu for the shape that it receives."""
    layers: list[Layer] = []
    received: list[Shape] = []

    def add(layer: Layer) -> None:
        nonlocal shape
        layers.append(layer)
        received.append(shape)
        shape = layer.output(shape)

    for layer in first:
        add(layer)
    overwritable = bool(first)  # the samples may be a leaf that requires grad
    for gene in genes[len(first) :]:
        menu = menus[len(shape)]
        drawn: Layer = menu[gene * len(menu) // GENES].fitted(shape)
        if isinstance(drawn, TiedLinear):
            drawn = _tied_layer(drawn, shape, layers, received)
        if isinstance(drawn, ReLU) and drawn.inplace and not overwritable:
            drawn = ReLU()
        if drawn.overwritable is not None:
            overwritable = drawn.overwritable
        add(drawn)
    if not any(layer.parameters(shape) for layer, shape in zip(layers, received, strict=True)):
        layers.insert(0, Linear(2, bias=False))
    return tuple(layers[:DRAWN_MAX_LAYERS])  # type: ignore[arg-type]


def _tied_layer(
    drawn: TiedLinear, shape: Shape, layers: Sequence[Layer], received: Sequence[Shape]
) -> Layer:
    """`drawn`, tied to the last layer whose weight fits `shape`; else a Linear of its own."""
    for of in reversed(range(len(layers))):
        if isinstance(layers[of], (Linear, Embedding)):
            weight = layers[of].parameters(received[of])[0]
            if weight.shape[1] == shape[-1] and not weight.sparse:
                return TiedLinear(weight.shape[0], of, drawn.bias)
    return Linear(drawn.out_features, drawn.bias)


@cache
def menus_of(kind: ParameterKind, elements: int = 0) -> Mapping[int, Sequence[AnyLayer]]:
    """MENUS, with only the layers whose parameters a subject of `kind` can train.

    All of them have at least this number of elements.
    """
    return {rank: trainable_layers(menu, rank, kind, elements) for rank, menu in MENUS.items()}


def trainable_layers(
    menu: Sequence[AnyLayer], rank: int, kind: ParameterKind, elements: int = 0
) -> tuple[AnyLayer, ...]:
    """The layers of a menu for `rank` dimensions that a subject of `kind` can train.

    All of their parameters have at least this number of elements.
    """
    shape = (2,) * rank
    largest = {"any": 9, "sparse": 9, "up-to-2d": 2, "matrices": 2}[kind]
    smallest = 2 if kind == "matrices" else 0
    return tuple(
        layer
        for layer in menu
        if all(
            smallest <= len(p.shape) <= largest and prod(p.shape) >= elements
            for p in layer.parameters(shape)
        )
    )


def nest_layers(layers: tuple[AnyLayer, ...], nesting: str) -> tuple[AnyLayer, ...]:
    """The same layers with some of them inside Sequentials."""
    if nesting == "flat" or len(layers) < 2:
        return layers
    if nesting == "tail":
        return (layers[0], Sequential(layers[1:]))
    if nesting == "pairs":
        return tuple(Sequential(layers[i : i + 2]) for i in range(0, len(layers), 2))
    return (Sequential((layers[0], Sequential(layers[1:]))),)
