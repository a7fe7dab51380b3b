"""Convolutions and transposed convolutions."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, ClassVar

import msgspec

from frostproof.errors import CaseError
from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Shape, Size, need

LARGEST = 8
"""Drawn transposed convolutions make no side larger than this."""


class _Convolution(Layer, frozen=True):
    """Kernels are odd and padding is half the kernel, so that no side becomes empty."""

    out_channels: Size
    kernel_size: Size = 1
    stride: Size = 1
    bias: bool = True
    spatial: ClassVar[int] = 0
    name: ClassVar[str] = ""

    def resized(self, size: int) -> int:
        raise NotImplementedError

    def output(self, shape: Shape) -> Shape:
        need(self.spatial + 1, self, shape)
        if self.kernel_size % 2 == 0:
            raise CaseError(f"{self!r} has an even kernel: use an odd kernel_size")
        return (self.out_channels, *map(self.resized, shape[1:]))

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        weight = ParameterSpec(
            "weight", (*self.channels(shape), *(self.kernel_size,) * self.spatial)
        )
        return (weight, ParameterSpec("bias", (self.out_channels,))) if self.bias else (weight,)

    def repeats(self, shape: Shape) -> int:
        return max(prod(shape[1:]), prod(self.output(shape)[1:]))

    def channels(self, shape: Shape) -> tuple[int, int]:
        return (self.out_channels, shape[0])

    def constructor(self, shape: Shape) -> Constructor:
        options: dict[str, Any] = {}
        if self.stride != 1:
            options["stride"] = self.stride
        if self.kernel_size != 1:
            options["padding"] = self.kernel_size // 2
        if not self.bias:
            options["bias"] = False
        return Constructor(
            f"{self.name}{self.spatial}d", (shape[0], self.out_channels, self.kernel_size), options
        )


class _Conv(_Convolution, frozen=True):
    name: ClassVar[str] = "Conv"

    def resized(self, size: int) -> int:
        return (size - 1) // self.stride + 1


class Conv1d(_Conv, frozen=True):
    spatial: ClassVar[int] = 1


class Conv2d(_Conv, frozen=True):
    spatial: ClassVar[int] = 2


class _ConvTranspose(_Convolution, frozen=True):
    stride: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1
    name: ClassVar[str] = "ConvTranspose"

    def resized(self, size: int) -> int:
        return (size - 1) * self.stride + 1

    def channels(self, shape: Shape) -> tuple[int, int]:
        return (shape[0], self.out_channels)

    def fitted(self, shape: Shape) -> Layer:
        if max(self.output(shape)[1:]) <= LARGEST:
            return self
        return msgspec.structs.replace(self, stride=1)


class ConvTranspose1d(_ConvTranspose, frozen=True):
    spatial: ClassVar[int] = 1


class ConvTranspose2d(_ConvTranspose, frozen=True):
    spatial: ClassVar[int] = 2
