"""Recurrent layers: a sequence of features becomes a sequence of hidden states."""

from __future__ import annotations

from typing import ClassVar

from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Shape, Size, need


class _Recurrent(Layer, frozen=True):
    """Samples are (length, features)."""

    hidden_size: Size
    gates: ClassVar[int] = 0
    overwritable: ClassVar[bool | None] = False

    def output(self, shape: Shape) -> Shape:
        need(2, self, shape)
        return (shape[0], self.hidden_size)

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        rows = self.gates * self.hidden_size
        return (
            ParameterSpec("weight_ih_l0", (rows, shape[-1])),
            ParameterSpec("weight_hh_l0", (rows, self.hidden_size)),
            ParameterSpec("bias_ih_l0", (rows,)),
            ParameterSpec("bias_hh_l0", (rows,)),
        )

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor(type(self).__name__, (shape[-1], self.hidden_size), ours=True)


class LSTM(_Recurrent, frozen=True):
    gates: ClassVar[int] = 4
    autocasts: ClassVar[bool] = False


class GRU(_Recurrent, frozen=True):
    gates: ClassVar[int] = 3
