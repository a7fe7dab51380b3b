"""Signs of life, by which a training that is slow is told from one that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD_S = 1.0
"""Shortest time between two signs that are passed on."""


class _Heart:
    listener: Callable[[], None] | None = None
    due = 0.0


def beat() -> None:
    """Tell the listener of this process, if there is one, that a training goes on.

    Raises what the listener raises, as where the time is over.
    """
    if _Heart.listener is not None and (now := time.monotonic()) >= _Heart.due:
        _Heart.due = now + PERIOD_S
        _Heart.listener()


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Pass signs of life to `listener` until the end."""
    _Heart.listener, _Heart.due = listener, 0.0
    try:
        yield
    finally:
        _Heart.listener = None
