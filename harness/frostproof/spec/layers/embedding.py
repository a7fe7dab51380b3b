"""Embeddings: they take tokens, so they come first, and the input has a vocabulary."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Shape, Size, need


class _Table(Layer, frozen=True):
    num_embeddings: Size
    embedding_dim: Size

    @property
    def takes_tokens(self) -> bool:
        return True


class Embedding(_Table, frozen=True):
    """A vector for each token."""

    sparse: bool = False

    max_norm: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """If it is not 0, forward scales longer rows that it reads down to this norm, in place."""

    def output(self, shape: Shape) -> Shape:
        need(1, self, shape)
        return (*shape, self.embedding_dim)

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return (
            ParameterSpec(
                "weight", (self.num_embeddings, self.embedding_dim), self.sparse, self.max_norm > 0
            ),
        )

    def constructor(self, shape: Shape) -> Constructor:
        options: dict[str, Any] = {}
        if self.max_norm:
            options["max_norm"] = self.max_norm
        if self.sparse:
            options["sparse"] = True
        return Constructor("Embedding", (self.num_embeddings, self.embedding_dim), options)


class EmbeddingBag(_Table, frozen=True):
    """One vector for all tokens of a sample."""

    mode: Literal["sum", "mean"] = "mean"
    sparse: bool = False

    def output(self, shape: Shape) -> Shape:
        need(1, self, shape)
        return (self.embedding_dim,)

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("weight", (self.num_embeddings, self.embedding_dim), self.sparse),)

    def constructor(self, shape: Shape) -> Constructor:
        options: dict[str, Any] = {"mode": self.mode}
        if self.sparse:
            options["sparse"] = True
        return Constructor("EmbeddingBag", (self.num_embeddings, self.embedding_dim), options)
