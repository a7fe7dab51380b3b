"""Modules that `torch.nn` does not have: one tensor in, one out, parameter names as in torch."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint


def _time_first(x: Tensor) -> Tensor:
    """(batch, length, features) to (length, batch, features), or back.

    Torch's own `batch_first` passes a transposed view to `linear`, which then uses another kernel,
    with another rounding, if the weight does not require grad. A clone has the strides of a
    contiguous tensor, while `contiguous` keeps those of a view whose length or batch is 1.
    """
    return x.transpose(0, 1).clone(memory_format=torch.contiguous_format)


class LSTM(nn.LSTM):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return _time_first(super().forward(_time_first(x))[0])


class GRU(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return _time_first(super().forward(_time_first(x))[0])


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = _time_first(x)
        return _time_first(super().forward(x, x, x, need_weights=False)[0])


class TransformerEncoderLayer(nn.TransformerEncoderLayer):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return _time_first(super().forward(_time_first(x)))


class LoRALinear(nn.Module):
    """base(x) + x down^T up^T; no factor of the adapter starts at zero."""

    def __init__(
        self, in_features: int, out_features: int, rank: int, device: Any = None, dtype: Any = None
    ) -> None:
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


def spread(module: nn.Module) -> nn.Module:
    """Move norms and biases away from ones and zeros, which would hide a stray update."""
    for name, p in module.named_parameters():
        if p.dim() == 1:
            low, high = (0.5, 1.5) if name.endswith("weight") else (0.25, 0.75)
            nn.init.uniform_(p, low, high)
    return module


def only(model: nn.Module, *names: str) -> nn.Module:
    """A module with the named parameters of the model, and no others."""
    root = nn.Module()
    for name in names:
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, model.get_parameter(name))
    return root


def mean_square(outputs: Any) -> Tensor:
    """The mean of the squares of all floating-point tensors in nested containers."""
    leaves = (each for each in tree_leaves(outputs) if torch.is_tensor(each))
    found = [each.square().mean().float() for each in leaves if each.is_floating_point()]
    return torch.stack(found).mean()
