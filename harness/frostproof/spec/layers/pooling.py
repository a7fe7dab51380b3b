"""Layers without parameters that change the shape: pooling and Flatten."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from frostproof.spec.layers.base import Constructor, Layer, Shape, Size, need


class Flatten(Layer, frozen=True):
    overwritable: ClassVar[bool | None] = None

    def output(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("Flatten", takes_factory=False)


class _Halving(Layer, frozen=True):
    """Kernel 3, stride 2 and padding 1 fit any size."""

    spatial: ClassVar[int] = 0

    def output(self, shape: Shape) -> Shape:
        need(self.spatial + 1, self, shape)
        return (shape[0], *((size + 1) // 2 for size in shape[1:]))

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor(
            type(self).__name__, (3,), {"stride": 2, "padding": 1}, takes_factory=False
        )


class MaxPool1d(_Halving, frozen=True):
    spatial: ClassVar[int] = 1


class MaxPool2d(_Halving, frozen=True):
    spatial: ClassVar[int] = 2


class AvgPool1d(_Halving, frozen=True):
    spatial: ClassVar[int] = 1


class AvgPool2d(_Halving, frozen=True):
    spatial: ClassVar[int] = 2


class AdaptiveAvgPool2d(Layer, frozen=True):
    output_size: Size = 1

    def output(self, shape: Shape) -> Shape:
        need(3, self, shape)
        return (shape[0], self.output_size, self.output_size)

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("AdaptiveAvgPool2d", (self.output_size,), takes_factory=False)
