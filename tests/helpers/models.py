"""Three models of the usual kinds, from torch.nn alone, and what goes into each."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from frostproof.spec.architecture import Architecture

BATCH, SIDE, CHANNELS = 2, 6, 4
LENGTH, WIDTH, HEADS, INNER = 3, 8, 2, 16
WORDS, HIDDEN, CLASSES = 11, 6, 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return cast(Tensor, self.relu(x + inner))


class ResNet(nn.Module):
    """Takes (batch, 3, side, side)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.layer1, self.layer2 = Block(), Block()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.pool(self.layer2(self.layer1(self.stem(x)))).flatten(1)))


class Encoder(nn.Module):
    """Takes (batch, length, width)."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.encoder(x).mean(1)))


class Classifier(nn.Module):
    """Takes tokens, (length, batch)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.lstm = nn.LSTM(WIDTH, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.lstm(self.embedding(tokens))[0][-1]))


def resnet() -> tuple[nn.Module, Tensor]:
    return ResNet(), torch.randn(BATCH, 3, SIDE, SIDE)


def encoder() -> tuple[nn.Module, Tensor]:
    return Encoder(), torch.randn(BATCH, LENGTH, WIDTH)


def classifier() -> tuple[nn.Module, Tensor]:
    return Classifier(), torch.randint(WORDS, (LENGTH, BATCH))


def batch(
    architecture: Architecture, size: int = 2, dtype: str = "float32"
) -> tuple[Tensor, Tensor]:
    """Samples and targets for a drawn network, from torch's global generator."""
    samples, targets = architecture.batch(size, "cpu", dtype)
    found: tuple[Tensor, Tensor] = eval(f"({samples}, {targets})", {"torch": torch})
    return found
