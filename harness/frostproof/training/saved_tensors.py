"""Bytes of tensors: of storages, each counted once, and of tensors saved for backward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Identity of each storage -> its bytes. A sparse tensor has two: indices and values."""
    found: dict[int, int] = {}
    for tensor in tensors:
        parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
        for part in parts:
            storage = part.untyped_storage()
            found[storage._cdata] = storage.nbytes()
    return found


def size(tensors: Iterable[Tensor]) -> int:
    """The bytes of their storages, each counted once."""
    return sum(storages(tensors).values())


class _Saved:
    """A tensor that a graph keeps; it lives as long as the graph does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedForBackward:
    """A context that observes the tensors which autograd saves for backward.

    `held` has those that a graph still holds: `detach()`, for example, drops a graph and what it
    saved. `seen` counts every save.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.alive: WeakSet[_Saved] = WeakSet()
        self.hooks: Any = torch.autograd.graph.saved_tensors_hooks(
            self._keep, lambda saved: saved.tensor
        )

    def _keep(self, tensor: Tensor) -> _Saved:
        saved = _Saved(
            tensor.detach()
        )  # an operation's own output would keep the operation alive, and with it itself
        self.alive.add(saved)
        self.seen += 1
        return saved

    def held(self) -> dict[int, int]:
        """Identity of each storage -> its bytes."""
        return storages(saved.tensor for saved in self.alive)

    def __enter__(self) -> SavedForBackward:
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)
