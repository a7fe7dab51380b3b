"""The memory of this process: caches of kernels, addresses, and glibc's allocator."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

M_PERTURB = -6
"""An option of `mallopt`, from malloc.h.

malloc then fills memory with the complement of a byte, and free fills it with the byte.
"""

FILLER = 0x80
"""The byte for M_PERTURB.

New memory holds 0x7F7F...: a number near the largest of each dtype, and a NaN in float16.
"""

CACHE_CAPACITIES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""How many kernels oneDNN caches, and how many descriptions of each kind its layer ideep caches.

The default is 1,024. Each network has its own shapes and is soon gone, so a larger cache only
grows, for 100,000 trials, and makes none of them faster.
"""


def limit_kernel_caches() -> None:
    """Set the capacities of the caches, unless the user has set them.

    This must be called before the kernels are first used.
    """
    for name, number in CACHE_CAPACITIES.items():
        os.environ.setdefault(name, number)


def release_free_memory() -> None:
    """Return free memory to the system.

    Hypothesis frees a whole batch at once, and leaves gaps between the objects that stay.
    """
    gc.collect()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def shuffle_addresses() -> None:
    """Let the next parameters have addresses in another order, so that a set has, too.

    Python gives a new object the place of the one of its size that was freed last.
    """
    freed = [torch.nn.Parameter(torch.empty(0)) for _ in range(128)]
    random.Random().shuffle(freed)


@contextmanager
def filled_memory() -> Iterator[None]:
    """Fill new memory, so that reading it before writing to it shows.

    Memory that torch allocates holds NaN, and memory that its kernels allocate a large number.
    """
    settings: Any = torch.utils.deterministic
    fill, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, True
    option = _of_glibc("mallopt")
    if option is not None:
        option(M_PERTURB, FILLER)
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = fill
        if option is not None:
            option(M_PERTURB, 0)


def can_fill_kernel_memory() -> bool:
    """Whether memory that kernels allocate for themselves can be filled here too."""
    return _of_glibc("mallopt") is not None


@cache
def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
