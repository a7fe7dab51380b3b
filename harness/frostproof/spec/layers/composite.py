"""Layers that contain layers, and the union of all layer kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Annotated, ClassVar

import msgspec

from frostproof.errors import CaseError
from frostproof.spec.layers.activation import GELU, Dropout, PReLU, ReLU, Tanh
from frostproof.spec.layers.attention import SelfAttention, TransformerEncoderLayer
from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Shape
from frostproof.spec.layers.convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from frostproof.spec.layers.embedding import Embedding, EmbeddingBag
from frostproof.spec.layers.linear import (
    Linear,
    LoRALinear,
    SpectralNormLinear,
    TiedLinear,
    WeightNormLinear,
)
from frostproof.spec.layers.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    RMSNorm,
)
from frostproof.spec.layers.pooling import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    Flatten,
    MaxPool1d,
    MaxPool2d,
)
from frostproof.spec.layers.recurrent import GRU, LSTM


class _Composite(Layer, frozen=True):
    layers: Annotated[tuple[AnyLayer, ...], msgspec.Meta(min_length=1)]

    def inner(self, shape: Shape) -> Iterator[tuple[int, Layer, Shape]]:
        """The layers, numbered, each with the shape of one sample that it receives."""
        for index, layer in enumerate(self.layers):
            yield index, layer, shape
            shape = layer.output(shape)

    @property
    def needs_many(self) -> bool:
        return any(layer.needs_many for layer in self.layers)

    @property
    def takes_tokens(self) -> bool:
        return bool(self.layers) and self.layers[0].takes_tokens

    def output(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.output(shape)
        return shape

    def work(self, shape: Shape) -> int:
        return prod(shape) + sum(layer.work(received) for _, layer, received in self.inner(shape))

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return tuple(
            parameter._replace(name=f"{index}.{parameter.name}")
            for index, layer, received in self.inner(shape)
            for parameter in layer.parameters(received)
        )

    def constructor(self, shape: Shape) -> Constructor:
        calls = tuple(layer.constructor(received) for _, layer, received in self.inner(shape))
        return Constructor(type(self).__name__, calls, takes_factory=False)

    def source(self, shape: Shape, factory: Sequence[str] = ()) -> str:
        constructor = self.constructor(shape)
        words = [layer.source(received, factory) for _, layer, received in self.inner(shape)]
        words += [f"{key}={value!r}" for key, value in constructor.kwargs.items()]
        return f"{'' if constructor.ours else 'nn.'}{constructor.name}({', '.join(words)})"


class Sequential(_Composite, frozen=True):
    """`nn.Sequential`; its layers have places of their own in a network."""


class _Segment(_Composite, frozen=True):
    """Layers that share one place in a network."""

    def output(self, shape: Shape) -> Shape:
        for index, layer in enumerate(self.layers):
            if isinstance(layer, (TiedLinear, Checkpointed)):
                raise CaseError(f"{layer!r} is inside a {type(self).__name__}: put it outside")
            if index and layer.takes_tokens:
                raise CaseError(
                    f"{layer!r} comes {index} layers late: layers that take tokens come first"
                )
        return super().output(shape)

    def fitted(self, shape: Shape) -> Layer:
        layers = []
        for layer in self.layers:
            layers.append(layer.fitted(shape))
            shape = layers[-1].output(shape)
        return msgspec.structs.replace(self, layers=tuple(layers))


class Residual(_Segment, frozen=True):
    """x + inner(x)."""

    def output(self, shape: Shape) -> Shape:
        if (found := super().output(shape)) != shape:
            raise CaseError(f"{self!r} turns {shape} into {found}: its layers must keep the shape")
        return shape

    def constructor(self, shape: Shape) -> Constructor:
        return super().constructor(shape)._replace(ours=True)

    def fitted(self, shape: Shape) -> Layer:
        """Its last layer with a width is adapted, so that the shape stays."""
        layers = list(self.layers)
        for i in reversed(range(len(layers))):
            if isinstance(layer := layers[i], (Linear, Conv1d, Conv2d)):
                width = (
                    {"out_features": shape[-1]}
                    if isinstance(layer, Linear)
                    else {"out_channels": shape[0]}
                )
                layers[i] = msgspec.structs.replace(layer, **width)
                break
        return _Segment.fitted(Residual(tuple(layers)), shape)


class Checkpointed(_Segment, frozen=True):
    """Layers whose activations are computed again in backward, by `torch.utils.checkpoint`."""

    reentrant: bool = False
    keeps_inputs: ClassVar[bool] = True
    overwritable: ClassVar[bool | None] = False

    def reaches(self, upstream: bool) -> bool:
        """A reentrant segment is detached if no input of it requires grad."""
        return upstream or not self.reentrant

    def constructor(self, shape: Shape) -> Constructor:
        return super().constructor(shape)._replace(kwargs={"reentrant": self.reentrant}, ours=True)


AnyLayer = (
    Linear
    | TiedLinear
    | LoRALinear
    | WeightNormLinear
    | SpectralNormLinear
    | Conv1d
    | Conv2d
    | ConvTranspose1d
    | ConvTranspose2d
    | BatchNorm1d
    | BatchNorm2d
    | InstanceNorm1d
    | InstanceNorm2d
    | LayerNorm
    | RMSNorm
    | GroupNorm
    | ReLU
    | Tanh
    | GELU
    | PReLU
    | Dropout
    | Flatten
    | MaxPool1d
    | MaxPool2d
    | AvgPool1d
    | AvgPool2d
    | AdaptiveAvgPool2d
    | LSTM
    | GRU
    | SelfAttention
    | TransformerEncoderLayer
    | Embedding
    | EmbeddingBag
    | Sequential
    | Residual
    | Checkpointed
)
"""Every layer kind, as a tagged union of msgspec. ARCHITECTURE.md says how to add one."""
