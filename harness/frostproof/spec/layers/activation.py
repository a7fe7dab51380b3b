"""Activations and dropout."""

from __future__ import annotations

from typing import ClassVar

from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Probability, Shape


class ReLU(Layer, frozen=True):
    inplace: bool = False
    overwritable: ClassVar[bool | None] = False

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor(
            "ReLU", (), {"inplace": True} if self.inplace else {}, takes_factory=False
        )


class Tanh(Layer, frozen=True):
    overwritable: ClassVar[bool | None] = False

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("Tanh", takes_factory=False)


class GELU(Layer, frozen=True):
    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("GELU", takes_factory=False)


class PReLU(Layer, frozen=True):
    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("weight", (1,)),)

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("PReLU")


class Dropout(Layer, frozen=True):
    p: Probability = 0.5
    overwritable: ClassVar[bool | None] = None

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("Dropout", (self.p,), takes_factory=False)
