"""Interruptions from outside, told apart from what an optimizer raises itself.

An optimizer may raise anything, KeyboardInterrupt and SystemExit too, and that is a finding. A signal may arrive at the same
place, and then the run has to end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from frostproof.errors import RunInterruptedError


def interrupt(number: int = signal.SIGINT, frame: object = None) -> NoReturn:
    """A signal's handler that raises RunInterruptedError."""
    raise RunInterruptedError(signal.Signals(number).name)


@contextmanager
def interruptible() -> Iterator[None]:
    """While this is active in the main thread, Ctrl-C raises RunInterruptedError where it would have raised KeyboardInterrupt.

    A handler that somebody else has set is left as it is. Outside the main thread no handler can be set, and none is.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def passes(error: BaseException) -> bool:
    """Whether an exception that came through an optimizer's code came from outside, and must go on.

    Without a handler of ours nobody knows who raised a KeyboardInterrupt, and it goes on. What pytest raises to end a test, as
    when its time is over, goes on as well.
    """
    if isinstance(error, KeyboardInterrupt):
        return (
            isinstance(error, RunInterruptedError)
            or signal.getsignal(signal.SIGINT) is not interrupt
        )
    import pytest

    return isinstance(error, (pytest.exit.Exception, pytest.fail.Exception, pytest.skip.Exception))
