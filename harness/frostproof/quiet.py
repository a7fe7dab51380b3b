"""Importing torch, and others' modules, without their warnings: torch has one where NumPy is absent, which we do not need."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings inside, whatever filters are in force: under `-W error` an import would fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
