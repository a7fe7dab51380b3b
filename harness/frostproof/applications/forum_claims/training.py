"""What the claims train, in plain torch: it becomes a part of their scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def parameters_of(model: nn.Sequential, layers: tuple[str, ...], what: str) -> list[Any]:
    """The parameters of the layers that are `what`, "frozen" or "trained"."""
    return [
        p
        for block, each in zip(model, layers, strict=True)
        if each == what
        for p in block.parameters()
    ]


def loss_of(model: nn.Module, step: int = 0) -> Any:
    torch.default_generator.manual_seed(step)
    return model(torch.randn(4, 3, dtype=torch.float64)).square().mean()


def build(
    approach: str,
    layers: tuple[str, ...],
    optimizer: Any = ("SGD", {}),
    seed: int = 0,
    between: str = "Tanh",
) -> Any:
    """A model and its optimizer. A: requires_grad=False on what is frozen; B: the optimizer gets the trained layers alone."""
    torch.default_generator.manual_seed(seed)
    (name, options), kind = optimizer, torch.float64
    norm: Any = (
        {"num_features": 3, "affine": False, "dtype": kind} if between == "BatchNorm1d" else {}
    )
    bias = name != "Muon"  # which takes matrices alone
    model = nn.Sequential(
        *(
            nn.Sequential(nn.Linear(3, 3, bias, dtype=kind), getattr(nn, between)(**norm))
            for _ in layers
        )
    )
    for parameter in parameters_of(model, layers, "frozen"):
        parameter.requires_grad = approach == "B"
    owned = model.parameters() if approach == "A" else parameters_of(model, layers, "trained")
    return model, getattr(torch.optim, name)(owned, lr=0.1, **options)


def train(
    model: nn.Sequential, optimizer: Any, steps: int, clip: float | None = None, zero: Any = ()
) -> list[float]:
    """The norms of all gradients, where they are clipped; `zero`: what clears gradients in place of the optimizer."""
    norms = []
    for step in range(steps):
        for each in zero or (optimizer,):
            each.zero_grad()
        loss_of(model, step).backward()
        if clip is not None:
            norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), clip)))
        optimizer.step()
    return norms


def difference_in_words(left: Iterable[Any], right: Iterable[Any]) -> str:
    """How far the tensors of two lists are apart; empty where they have the same bits."""
    pairs = list(zip(left, right, strict=True))
    if all(
        repr(one.tolist()) == repr(other.tolist()) for one, other in pairs
    ):  # NaN is NaN, and -0.0 is not 0.0
        return ""
    return f"{max(float((one - other).abs().max()) for one, other in pairs):.3g} apart"
