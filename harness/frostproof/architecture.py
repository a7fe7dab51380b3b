"""A network as data: what it receives and its layers, in order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec

from frostproof.errors import CaseError
from frostproof.layers import AnyLayer, Embedding, Layer, ParameterSpec, Sequential, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn


MAX_SCALARS = 10_000_000


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one sample looks like: floats of `shape`, or, with a vocabulary, `shape` tokens below it."""

    shape: Shape
    vocabulary: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0


class Place(NamedTuple):
    """A layer where it stands: its dotted path in the network and the shape of one sample that it receives."""

    path: str
    layer: Layer
    shape: Shape


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """An `nn.Sequential` as data.

    >>> Architecture(Input((2,)), (Linear(3), Tanh())).parameters
    (ParameterSpec(name='0.weight', shape=(3, 2), sparse=False), ParameterSpec(name='0.bias', shape=(3,), sparse=False))
    """

    input: Input
    layers: tuple[AnyLayer, ...]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every layer that computes something, in the order of the forward pass; a nested Sequential is opened."""
        return tuple(self._walk(self.layers, self.input.shape, ""))

    @cached_property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """Every parameter, in the order of `model.named_parameters()`."""
        return tuple(
            parameter._replace(name=f"{place.path}.{parameter.name}")
            for place in self.places
            for parameter in place.layer.parameters(place.shape)
        )

    @cached_property
    def output(self) -> Shape:
        """The shape of one sample after the last layer."""
        return self.places[-1].layer.output(self.places[-1].shape)

    def _walk(self, layers: tuple[Layer, ...], shape: Shape, prefix: str) -> Iterator[Place]:
        for index, layer in enumerate(layers):
            path = f"{prefix}{index}"
            if isinstance(layer, Sequential):
                yield from self._walk(layer.layers, shape, f"{path}.")
            else:
                yield Place(path, layer, shape)
            shape = layer.output(shape)

    def check(self) -> None:
        """Raise CaseError, in one line, where this is no network that torch can build."""
        if not self.layers or not self.parameters:
            raise CaseError("the architecture has no parameter: add a layer that has one, such as Linear(1)")
        if (scalars := sum(prod(parameter.shape) for parameter in self.parameters)) > MAX_SCALARS:
            raise CaseError(f"the architecture has {scalars:,} weights: at most {MAX_SCALARS:,} are allowed")
        for place in self.places:
            tokens = place is self.places[0] and self.input.vocabulary > 0
            if tokens != isinstance(place.layer, Embedding):
                raise CaseError(f"layer {place.path} is {place.layer!r}: an Embedding stands first, on an Input with a vocabulary")

    def build(self, device: str, dtype: Any) -> nn.Sequential:
        """The network, initialised from torch's global RNG. Parameters of norms start away from ones and zeros."""
        from torch import nn

        network = Sequential(self.layers).build(self.input.shape, device, dtype)
        assert isinstance(network, nn.Sequential)
        return network

    def batch(self, size: int, generator: Any, device: str, dtype: Any) -> tuple[Tensor, Tensor]:
        """`size` random samples and their regression targets: (size, *input.shape), (size, *output).

        Drawn on the CPU, so that every device sees the same numbers.
        """
        import torch

        shape = (size, *self.input.shape)
        if self.input.vocabulary:
            samples = torch.randint(self.input.vocabulary, shape, generator=generator)
        else:
            samples = torch.randn(shape, generator=generator, dtype=dtype)
        targets = torch.randn((size, *self.output), generator=generator, dtype=dtype)
        return (samples, targets) if device == "cpu" else (samples.to(device), targets.to(device))
