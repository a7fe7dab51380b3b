"""Digests of tensors, computed where the tensors are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from frostproof.training.bits import shard_of

WIDTH = 1021
"""The digest of a larger tensor has as many numbers. A prime, so that rows of a weight that change
places are added to other columns."""

WORDS = (torch.int64, torch.int32, torch.int16, torch.int8)

Digest = list[Tensor]
"""For each tensor the sums of every WIDTH-th word of its memory; small tensors are kept whole."""


def digest(tensors: Sequence[Tensor]) -> Digest:
    """One pass over the memory of each tensor, without waiting for an accelerator.

    Of a DTensor each rank looks at its shard, so that no rank waits for another one.

    Tensors with other bits have another digest, unless their differences cancel out in each of the
    WIDTH sums, modulo the size of a word.
    """
    return [_sums(shard_of(tensor).detach()) for tensor in tensors]


def changed(before: Digest, after: Digest) -> list[int]:
    """The positions of the tensors whose digests differ; waits once for each device."""
    places: dict[torch.device, list[int]] = {}
    for i, sums in enumerate(after):
        places.setdefault(sums.device, []).append(i)
    found: list[int] = []
    for here in places.values():
        same = all(before[i].device == after[i].device for i in here) and torch.equal(
            torch.cat([before[i] for i in here]), torch.cat([after[i] for i in here])
        )
        found += [] if same else [i for i in here if _differ(before[i], after[i])]
    return sorted(found)


def _differ(one: Tensor, other: Tensor) -> bool:
    return one.dtype != other.dtype or not torch.equal(one.cpu(), other.cpu())


def _sums(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if not tensor.is_contiguous():  # as channels_last is, which need not be copied
        order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
        tensor = tensor.permute(order).contiguous()
    size, offset = tensor.nbytes, tensor.storage_offset() * tensor.element_size()
    kind = next(each for each in WORDS if size % each.itemsize == offset % each.itemsize == 0)
    words = tensor.flatten().view(kind)
    rows = words.numel() // WIDTH
    if rows < 2:
        return words.clone()
    whole = words[: rows * WIDTH].view(rows, WIDTH).sum(0, dtype=kind)
    whole[: words.numel() - rows * WIDTH] += words[rows * WIDTH :]
    return whole
