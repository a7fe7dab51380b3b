"""Models that people could have, and batches and training steps for them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.helpers.models import ResNet


class Tied(nn.Module):
    """Takes tokens, (batch, length), and a scale; the head has the weight of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.1)
        self.embedding = nn.Embedding(7, 4)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.encoder(self.embedding(ids))) * scale}


def named_batch() -> dict[str, Tensor]:
    return {"ids": torch.randint(7, (2, 5)), "scale": torch.rand(())}


def loss_of_tokens(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = model(**batch)["logits"].flatten(0, 1)
    return nn.functional.cross_entropy(logits, batch["ids"].flatten())


class CutOff(nn.Module):
    """A reentrant checkpoint, which is cut off from backward if all below is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(4, 4), nn.Linear(4, 4)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        inner = checkpoint(self.inner, self.below(x), use_reentrant=True)
        return cast(Tensor, self.above(inner))


class Odd(nn.Module):
    """Has a parameter of its own, a scalar, one that is not used, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.unused = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(2))
        self.body = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.norm(self.body(x))) * self.scale)


def frozen_already() -> tuple[nn.Module, tuple[Tensor]]:
    model = ResNet()
    model.stem.requires_grad_(False)
    return model, (torch.randn(2, 3, 6, 6),)


READY = Odd()


class Wide(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2000, 1000)


def leaving() -> nn.Module:
    raise SystemExit


def raising() -> nn.Module:
    raise ValueError("no\nweights")


def dashes() -> nn.Module:
    model = nn.Module()
    model.add_module("a-b", nn.Linear(2, 2))
    model.add_module("c", nn.Linear(2, 2))
    return model


def doubles() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).double()


def several(model: nn.Module, batch: Any) -> Tensor:
    found: Tensor = model(batch)
    return found
