"""Less output from modules and optimizers that are not ours."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

NOTICE = "\n[frostproof: the rest of what this optimizer prints is dropped]\n"


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings. Under `-W error`, importing torch would otherwise fail without NumPy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class LimitedStream(io.TextIOBase):
    """Passes on the first `room` characters, and drops the rest."""

    def __init__(self, stream: TextIO, room: int) -> None:
        self.stream, self.room = stream, room

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.room > 0:
            self.stream.write(text[: self.room])
            self.room -= len(text)
            if self.room <= 0:
                self.stream.write(NOTICE)
        return len(text)


@contextmanager
def limited_output(room: int = 10_000) -> Iterator[None]:
    """Cut off what is printed after `room` characters: an optimizer may print at every step."""
    stdout, stderr = LimitedStream(sys.stdout, room), LimitedStream(sys.stderr, room)
    with redirect_stdout(stdout), redirect_stderr(stderr):
        yield
