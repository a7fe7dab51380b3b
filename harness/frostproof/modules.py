"""The modules that specs build and `torch.nn` does not have: a tensor in, a tensor out, parameter names as in torch."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class LSTM(nn.LSTM):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        output: Tensor = super().forward(x)[0]
        return output


class GRU(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        output: Tensor = super().forward(x)[0]
        return output


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)[0]


class LoRALinear(nn.Module):
    """base(x) + x down^T up^T, with no factor of the adapter at zero."""

    def __init__(self, in_features: int, out_features: int, rank: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.base = nn.Linear(in_features, out_features, device=device, dtype=dtype)
        self.down = nn.Parameter(torch.empty(rank, in_features, device=device, dtype=dtype))
        self.up = nn.Parameter(torch.empty(out_features, rank, device=device, dtype=dtype))
        nn.init.uniform_(self.down, 0.25, 0.75)
        nn.init.uniform_(self.up, 0.25, 0.75)

    def forward(self, x: Tensor) -> Tensor:
        adapted: Tensor = self.base(x) + x @ self.down.T @ self.up.T
        return adapted


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]


class Checkpointed(nn.Sequential):
    def __init__(self, *layers: nn.Module, reentrant: bool) -> None:
        super().__init__(*layers)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = checkpoint(super().forward, x, use_reentrant=self.reentrant)
        return output
