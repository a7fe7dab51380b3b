"""The networks that the claims train, and their training: plain torch, copied into the scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def parameters_of(model: nn.Sequential, layers: tuple[str, ...], kind: str) -> list[Any]:
    """The parameters of the layers of one kind, "frozen" or "trained"."""
    blocks = [block for block, each in zip(model, layers, strict=True) if each == kind]
    return [p for block in blocks for p in block.parameters()]


def loss_of(model: nn.Sequential, step: int = 0) -> Any:
    torch.default_generator.manual_seed(step)
    return model(torch.randn(4, 3, dtype=torch.float64)).square().mean()


def build(
    approach: str,
    layers: tuple[str, ...],
    optimizer: Any = ("SGD", {}),
    seed: int = 0,
    between: str = "Tanh",
) -> Any:
    """A model and its optimizer.

    A sets requires_grad=False on the frozen parameters and gives the optimizer all parameters.
    B gives the optimizer only the trained parameters.
    """
    torch.default_generator.manual_seed(seed)
    (name, options), dtype = optimizer, torch.float64
    norm = {"num_features": 3, "affine": False, "dtype": dtype} if between == "BatchNorm1d" else {}
    model = nn.Sequential()
    for _ in layers:
        linear = nn.Linear(3, 3, name != "Muon", dtype=dtype)  # Muon accepts only matrices, no bias
        model.append(nn.Sequential(linear, getattr(nn, between)(**norm)))
    for parameter in parameters_of(model, layers, "frozen"):
        parameter.requires_grad = approach == "B"
    owned = model.parameters() if approach == "A" else parameters_of(model, layers, "trained")
    return model, getattr(torch.optim, name)(owned, lr=0.1, **options)


def train(
    model: nn.Sequential, optimizer: Any, steps: int, clip: float | None = None, zero: Any = ()
) -> list[float]:
    """Train, and return the norm of all gradients at each step if they are clipped.

    The modules and optimizers in `zero` clear the gradients in place of the optimizer.
    """
    norms = []
    for step in range(steps):
        for each in zero or (optimizer,):
            each.zero_grad()
        loss_of(model, step).backward()
        if clip is not None:
            norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), clip)))
        optimizer.step()
    return norms


def difference(left: Iterable[Any], right: Iterable[Any]) -> str:
    """The largest difference between two lists of tensors, as text; "" if all bits are the same."""
    pairs = list(zip(left, right, strict=True))
    # The repr tells -0.0 from 0.0, and is the same for every NaN.
    if all(repr(one.tolist()) == repr(other.tolist()) for one, other in pairs):
        return ""
    return f"{max(float((one - other).abs().max()) for one, other in pairs):.3g} apart"
