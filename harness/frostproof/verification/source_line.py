"""The line of an optimizer's source that moved a weight, or that raised.

The smallest case is run once more, and Python tells of each line before it is run. The line after
which the weight has other bits is the one that wrote it.
"""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from frostproof.approaches.approach import Approach, Approaches
from frostproof.approaches.helper import Helper
from frostproof.errors import one_line
from frostproof.invariants.invariant import ShownBreach
from frostproof.process.interruption import comes_from_outside
from frostproof.spec.subject import Subject
from frostproof.training.bits import bits
from frostproof.training.training import SOURCE_NAME, Training
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


def find_source_line(
    shown: ShownBreach, subject: Subject, approaches: Approaches
) -> SourceLine | None:
    """The line that moved a weight that had to stay, or that raised; None where it is not known.

    It is the innermost line of the optimizer's library, or else of torch's optimizers. If the
    user's own way is at fault, it is the first line of what freezes there.
    """
    if shown.breach.kind.by_way and approaches.way is not None:
        return _beginning(approaches.way)
    if shown.breach.kind.raises:
        return _innermost(_frames_of(shown.crash.error.__traceback__))
    if shown.breach.kind.id != "moved" or subject.factory is None:
        return None
    return _writer(shown, subject, approaches)


def _beginning(way: Approach) -> SourceLine | None:
    """The first line of the function that freezes."""
    function: Any = way.functions["freeze"] if isinstance(way, Helper) else type(way).freeze
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code and SourceLine(code.co_filename, code.co_firstlineno, code.co_name)


def _writer(shown: ShownBreach, subject: Subject, approaches: Approaches) -> SourceLine | None:
    """Run the case again up to the breach, and watch the parameter in its event."""
    (role, *_), number = shown.breach.roles, shown.breach.event
    case, (position, *_) = shown.trial.case, shown.breach.parameters
    resumes = role.startswith("resumed")
    approach = approaches.roles_for(case)[role]
    training = Training(case, subject, approach, shown.device, resumes=resumes)
    try:
        training.build()
        for event in range(number):
            training.run(event)
        parameter = [*training.model.parameters()][position]
        watch = _Watch(lambda: bits(parameter))
        before, previous = bits(parameter), sys.gettrace()
        sys.settrace(watch.call)
        try:
            training.run(number)
        finally:
            sys.settrace(previous)
        return watch.writer if bits(parameter) != before else None
    except BaseException as error:  # whatever it raises is not what the case shows
        if comes_from_outside(error):
            raise
        return None
    finally:
        training.release()


class _Watch:
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
        self.line = _innermost(_stack(caller))
        return self._trace


def _innermost(places: Iterator[SourceLine]) -> SourceLine | None:
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


def _frames_of(traceback: TracebackType | None) -> Iterator[SourceLine]:
    """The places in the training that an exception came through, the innermost first."""
    found: list[SourceLine] = []
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
