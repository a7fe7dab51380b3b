"""Linear layers: plain, with a shared weight, with a low-rank adapter, and reparametrized."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar

import msgspec

from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Shape, Size


class _ToFeatures(Layer, frozen=True):
    """Maps the last dimension to `out_features`."""

    out_features: Size

    def output(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.out_features)

    def repeats(self, shape: Shape) -> int:
        return prod(shape[:-1])


class Linear(_ToFeatures, frozen=True):
    bias: bool = True

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        weight = ParameterSpec("weight", (self.out_features, shape[-1]))
        return (weight, ParameterSpec("bias", (self.out_features,))) if self.bias else (weight,)

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor(
            "Linear", (shape[-1], self.out_features), {} if self.bias else {"bias": False}
        )


class TiedLinear(_ToFeatures, frozen=True):
    """A Linear that shares the weight of an earlier Linear or Embedding.

    The weight belongs to that layer; `Architecture.build` ties it once both modules exist.
    """

    of: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    """The number of that layer, in the order of the forward pass."""

    bias: bool = True

    def work(self, shape: Shape) -> int:
        # The weight is not among its own parameters.
        return super().work(shape) + self.out_features * prod(shape)

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("bias", (self.out_features,)),) if self.bias else ()

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor(
            "Linear", (shape[-1], self.out_features), {} if self.bias else {"bias": False}
        )


class LoRALinear(_ToFeatures, frozen=True):
    """A Linear with a low-rank adapter beside it: base(x) + x down^T up^T.

    An adapter of rank 0 has parameters without elements, and changes nothing.
    """

    rank: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 1

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return (
            ParameterSpec("down", (self.rank, shape[-1])),
            ParameterSpec("up", (self.out_features, self.rank)),
            ParameterSpec("base.weight", (self.out_features, shape[-1])),
            ParameterSpec("base.bias", (self.out_features,)),
        )

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("LoRALinear", (shape[-1], self.out_features, self.rank), ours=True)


class _Reparametrized(_ToFeatures, frozen=True):
    """A Linear whose weight is computed from other parameters."""

    legacy: bool = False
    """Whether a hook of torch.nn.utils computes it, as before torch 2."""
    function: ClassVar[str] = ""

    def constructor(self, shape: Shape) -> Constructor:
        wrapper = self.function if self.legacy else f"parametrizations.{self.function}"
        return Constructor("Linear", (shape[-1], self.out_features), wrapper=wrapper)


class WeightNormLinear(_Reparametrized, frozen=True):
    function: ClassVar[str] = "weight_norm"

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        magnitude, direction = (
            ("weight_g", "weight_v") if self.legacy else _originals("original0", "original1")
        )
        return (
            ParameterSpec("bias", (self.out_features,)),
            ParameterSpec(magnitude, (self.out_features, 1)),
            ParameterSpec(direction, (self.out_features, shape[-1])),
        )


class SpectralNormLinear(_Reparametrized, frozen=True):
    function: ClassVar[str] = "spectral_norm"

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        (weight,) = ("weight_orig",) if self.legacy else _originals("original")
        return (
            ParameterSpec("bias", (self.out_features,)),
            ParameterSpec(weight, (self.out_features, shape[-1])),
        )


def _originals(*names: str) -> tuple[str, ...]:
    return tuple(f"parametrizations.weight.{name}" for name in names)
