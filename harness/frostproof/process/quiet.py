"""Others' modules and optimizers, kept from saying too much."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings inside, whatever filters are in force: under `-W error`, importing torch would fail where NumPy is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Bounded(io.TextIOBase):
    """Hands on the first characters, and drops the rest."""

    def __init__(self, stream: TextIO, room: int) -> None:
        self.stream, self.room = stream, room

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.room > 0:
            self.stream.write(text[: self.room])
            self.room -= len(text)
            if self.room <= 0:
                self.stream.write(
                    "\n[frostproof: the rest of what this optimizer prints is dropped]\n"
                )
        return len(text)


@contextmanager
def printing_less(room: int = 10_000) -> Iterator[None]:
    """What is printed inside is cut off after `room` characters: an optimizer may print at every step of many thousands."""
    with redirect_stdout(Bounded(sys.stdout, room)), redirect_stderr(Bounded(sys.stderr, room)):
        yield
