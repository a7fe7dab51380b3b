"""Normalisation layers: all have a weight per feature, most have a bias."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from frostproof.errors import CaseError
from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Shape, Size, need


class _Affine(Layer, frozen=True):
    """A weight and a bias per feature. The features are the channels, the first dimension."""

    random_affine: ClassVar[bool] = True

    def features(self, shape: Shape) -> int:
        return shape[0]

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        size = (self.features(shape),)
        return (ParameterSpec("weight", size), ParameterSpec("bias", size))

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor(type(self).__name__, (self.features(shape),))


class _BatchNorm(_Affine, frozen=True):
    @property
    def needs_many(self) -> bool:
        return True


class BatchNorm1d(_BatchNorm, frozen=True):
    def output(self, shape: Shape) -> Shape:
        if len(shape) not in (1, 2):
            need(1, self, shape)
        return shape


class BatchNorm2d(_BatchNorm, frozen=True):
    def output(self, shape: Shape) -> Shape:
        need(3, self, shape)
        return shape


class _InstanceNorm(_Affine, frozen=True):
    spatial: ClassVar[int] = 0

    def output(self, shape: Shape) -> Shape:
        need(self.spatial + 1, self, shape)
        if prod(shape[1:]) == 1:
            raise CaseError(
                f"{self!r} needs more than one value per channel, and receives {shape}: "
                "use a LayerNorm"
            )
        return shape

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor(type(self).__name__, (shape[0],), {"affine": True})

    def fitted(self, shape: Shape) -> Layer:
        return self if prod(shape[1:]) > 1 else LayerNorm()


class InstanceNorm1d(_InstanceNorm, frozen=True):
    spatial: ClassVar[int] = 1


class InstanceNorm2d(_InstanceNorm, frozen=True):
    spatial: ClassVar[int] = 2


class LayerNorm(_Affine, frozen=True):
    def features(self, shape: Shape) -> int:
        return shape[-1]


class RMSNorm(LayerNorm, frozen=True):
    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return super().parameters(shape)[:1]


class GroupNorm(_Affine, frozen=True):
    num_groups: Size = 1

    @property
    def needs_many(self) -> bool:
        return True

    def output(self, shape: Shape) -> Shape:
        if shape[0] % self.num_groups:
            raise CaseError(
                f"{self!r} cannot divide {shape[0]} channels: choose a divisor of {shape[0]}"
            )
        return shape

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("GroupNorm", (self.num_groups, shape[0]))

    def fitted(self, shape: Shape) -> Layer:
        return self if shape[0] % self.num_groups == 0 else GroupNorm(1)
