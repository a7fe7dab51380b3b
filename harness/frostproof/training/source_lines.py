"""Lines of source that move a weight, or that raise, as a training runs.

Python tells of each line before it is run. The line after which a weight has other bits is the one
that wrote it.
"""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from frostproof.errors import one_line
from frostproof.training.source import SOURCE_NAME
from frostproof.training.user_models import TORCH

TORCH_OPTIMIZERS = f"{TORCH}optim{os.sep}"
BASE_CLASS = f"{TORCH_OPTIMIZERS}optimizer.py"
HARNESS = f"{Path(__file__).parents[1]}{os.sep}"
STANDARD_LIBRARY = f"{sysconfig.get_path('stdlib')}{os.sep}"


class SourceLine(NamedTuple):
    """A place in a source file."""

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        text = one_line(linecache.getline(self.path, self.line), 100)
        return f"{_shortened(self.path)}:{self.line} in {self.function}(): {text}"


class Watch:
    """Finds the last line after which a value is another. `call` is what `sys.settrace` takes."""

    def __init__(self, value: Callable[[], bytes]) -> None:
        self.value, self.known = value, value()
        self.line: SourceLine | None = None
        """The line that runs now."""
        self.writer: SourceLine | None = None

    def call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        """Trace a new frame, unless it is one of a file that holds no optimizer."""
        return self._trace if _is_optimizer(frame.f_code.co_filename) else None

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        value = self.value()
        if value != self.known:
            self.known, self.writer = value, self.line
        caller = frame.f_back if event == "return" else frame
        self.line = innermost(_stack(caller))
        return self._trace


def innermost(places: Iterator[SourceLine]) -> SourceLine | None:
    """The first of these places that is not torch's, or else the first."""
    found = [each for each in places if _is_optimizer(each.path)]
    return next(
        (each for each in found if not each.path.startswith(TORCH)), next(iter(found), None)
    )


def _stack(frame: FrameType | None) -> Iterator[SourceLine]:
    """The places at which a frame and its callers in the training are, the innermost first."""
    while frame is not None and frame.f_code.co_filename != SOURCE_NAME:
        yield SourceLine(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back


def frames_of(error: BaseException) -> Iterator[SourceLine]:
    """The places in the training that an exception came through, the innermost first."""
    found: list[SourceLine] = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == SOURCE_NAME:
            found.clear()
        else:
            found.append(SourceLine(code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return reversed(found)


def _is_optimizer(path: str) -> bool:
    """Whether a file may hold code of an optimizer, or of what freezes for it."""
    if path.startswith((TORCH, HARNESS, "<")):
        return path.startswith(TORCH_OPTIMIZERS) and path != BASE_CLASS
    return not path.startswith(STANDARD_LIBRARY) or "site-packages" in path


def _shortened(path: str) -> str:
    """The path from the folder of installed packages, or from the folder of this process."""
    return path.rpartition(f"site-packages{os.sep}")[2].removeprefix(f"{Path.cwd()}{os.sep}")
