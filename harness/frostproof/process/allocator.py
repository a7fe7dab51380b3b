"""The memory of this process: what kernels keep of it, and, on glibc, what the C library's allocator can be told."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

M_PERTURB = -6
"""From malloc.h: with this setting, memory holds the complement of a byte when it is taken, and the byte when it is given back."""

FILLER = 0x80
"""Memory that is taken holds 0x7F7F..., a number near the largest of each dtype, and a NaN in float16."""

KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""How many kernels oneDNN keeps, and how many descriptions of each kind of them ideep, torch's layer above it: 1,024 if not told.

Each network has shapes of its own and is soon gone, so that what is kept grows for 100,000 trials and makes none of them faster.
"""


def keep_few() -> None:
    """Have kernels forgotten early. They read this as they are first used; what the user has set stands."""
    for name, number in KEPT.items():
        os.environ.setdefault(name, number)


def give_back() -> None:
    """Return to the system what is free: Hypothesis forgets a batch all at once, and what it leaves lies between what stays."""
    gc.collect()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def filled() -> Iterator[None]:
    """New memory is not empty in here, so that what is read before it is written shows, whatever was there by chance.

    What torch allocates holds NaN, what its kernels take for themselves a large number.
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


def fills_all() -> bool:
    """Whether memory that kernels take for themselves can be filled here, too."""
    return _of_glibc("mallopt") is not None


@cache
def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
