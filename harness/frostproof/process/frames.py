"""Room for the frames of Python's functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

SLOTS = 8300
"""Pointers in a frame that is just larger than 64 KiB, so that 128 KiB are taken for it."""


def with_room_for_frames(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with about 60 KiB for the frames of all that it calls.

    CPython keeps frames in chunks of 16 KiB. It takes a new one from the system where a call does
    not fit, and gives it back when the call returns. A call in a loop that happens to be at such a
    place takes 300 times as long: 7 µs. A check could take 2 s longer for that, and it depended on
    how deep pytest called it. A frame that needs more than a chunk gets one of a power of two.
    """

    def call(*args: Any, **kwargs: Any) -> R:
        return function(*args, **kwargs)

    code = call.__code__.replace(co_stacksize=SLOTS)
    roomy = FunctionType(code, call.__globals__, call.__name__, None, call.__closure__)
    found: Callable[P, R] = functools.wraps(function)(roomy)
    return found
