"""Interruptions from outside, told apart from exceptions that an optimizer raises.

An optimizer may raise any exception, also KeyboardInterrupt or SystemExit, and that is a finding.
A signal may arrive at the same place, and then the run must end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from frostproof.errors import RunInterruptedError


def interrupt(number: int = signal.SIGINT, frame: object = None) -> NoReturn:
    """Raise RunInterruptedError, as the handler of a signal."""
    raise RunInterruptedError(signal.Signals(number).name)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise RunInterruptedError instead of KeyboardInterrupt.

    A handler that somebody else has set stays. Only the main thread can set a handler.
    """
    may_set = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if may_set:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if may_set:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruptions_postponed() -> Iterator[None]:
    """Postpone Ctrl-C and SIGTERM until the block has ended, so that it is run as a whole."""
    received: list[int] = []
    may_set = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if may_set else ()
    previous = [(each, signal.getsignal(each)) for each in numbers]
    for each, handler in previous:
        if handler is not None:  # else it is not one of Python's, and could not be put back
            signal.signal(each, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for each, handler in previous:
            if handler is not None:
                signal.signal(each, handler)
        for number in received:
            signal.raise_signal(number)


def comes_from_outside(error: BaseException) -> bool:
    """Whether an exception that came through an optimizer's code must be raised again.

    That is so for a signal, and for what pytest raises to end a test, as at a timeout. Without our
    handler nobody knows who raised a KeyboardInterrupt, so it is raised again too.
    """
    if isinstance(error, RunInterruptedError):
        return True
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is not interrupt
    import pytest

    return isinstance(error, (pytest.exit.Exception, pytest.fail.Exception, pytest.skip.Exception))
