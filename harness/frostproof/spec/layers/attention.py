"""Self-attention, alone and in a transformer's encoder layer."""

from __future__ import annotations

from typing import ClassVar

from frostproof.errors import CaseError
from frostproof.spec.layers.base import (
    Constructor,
    Layer,
    ParameterSpec,
    Probability,
    Shape,
    Size,
    need,
)


def _attention_parameters(width: int, prefix: str = "") -> tuple[ParameterSpec, ...]:
    return (
        ParameterSpec(f"{prefix}in_proj_weight", (3 * width, width)),
        ParameterSpec(f"{prefix}in_proj_bias", (3 * width,)),
        ParameterSpec(f"{prefix}out_proj.weight", (width, width)),
        ParameterSpec(f"{prefix}out_proj.bias", (width,)),
    )


class _Attending(Layer, frozen=True):
    """Samples are (length, features)."""

    num_heads: Size = 1
    random_affine: ClassVar[bool] = True

    def output(self, shape: Shape) -> Shape:
        need(2, self, shape)
        if shape[-1] % self.num_heads:
            raise CaseError(
                f"{self!r} cannot divide {shape[-1]} features: choose a divisor of {shape[-1]}"
            )
        return shape

    def work(self, shape: Shape) -> int:
        return (
            super().work(shape) + 2 * shape[0] ** 2 * shape[1]
        )  # every position attends to every other

    def heads_for(self, shape: Shape) -> int:
        return self.num_heads if shape[-1] % self.num_heads == 0 else 1


class SelfAttention(_Attending, frozen=True):
    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return _attention_parameters(shape[-1])

    def constructor(self, shape: Shape) -> Constructor:
        return Constructor("SelfAttention", (shape[-1], self.num_heads), ours=True)

    def fitted(self, shape: Shape) -> Layer:
        return SelfAttention(self.heads_for(shape))


class TransformerEncoderLayer(_Attending, frozen=True):
    dim_feedforward: Size = 2
    dropout: Probability = 0.0

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        width, inner = shape[-1], self.dim_feedforward
        return (
            *_attention_parameters(width, "self_attn."),
            ParameterSpec("linear1.weight", (inner, width)),
            ParameterSpec("linear1.bias", (inner,)),
            ParameterSpec("linear2.weight", (width, inner)),
            ParameterSpec("linear2.bias", (width,)),
            *(
                ParameterSpec(f"norm{i}.{name}", (width,))
                for i in (1, 2)
                for name in ("weight", "bias")
            ),
        )

    def constructor(self, shape: Shape) -> Constructor:
        args = (shape[-1], self.num_heads, self.dim_feedforward, self.dropout)
        return Constructor("TransformerEncoderLayer", args, ours=True)

    def fitted(self, shape: Shape) -> Layer:
        return TransformerEncoderLayer(self.heads_for(shape), self.dim_feedforward, self.dropout)
