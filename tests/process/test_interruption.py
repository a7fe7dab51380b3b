"""A signal ends a run; what an optimizer raises by itself does not."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from frostproof.errors import RunInterruptedError
from frostproof.process.fence import fenced
from frostproof.process.interruption import comes_from_outside, interruptible


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Python's own handler, whatever started these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_raises_interrupted_and_the_handler_is_put_back() -> None:
    with pytest.raises(RunInterruptedError, match="SIGINT"), fenced("cpu"), fenced("cpu"):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    "error",
    [
        SystemExit,
        KeyboardInterrupt,
        GeneratorExit,
        asyncio.CancelledError,
        ValueError,
        BaseException,
    ],
)
def test_what_an_optimizer_raises_does_not_pass(error: type[BaseException]) -> None:
    with fenced("cpu"):
        assert not comes_from_outside(error())


@pytest.mark.parametrize(
    "error",
    [RunInterruptedError, pytest.fail.Exception, pytest.skip.Exception, pytest.exit.Exception],
)
def test_what_comes_from_outside_passes(error: type[BaseException]) -> None:
    with fenced("cpu"):
        assert comes_from_outside(error("now"))


def test_a_handler_of_somebody_else_stays_and_what_it_raises_passes() -> None:
    def theirs(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, theirs)
    with fenced("cpu"):
        assert signal.getsignal(signal.SIGINT) is theirs
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
        assert comes_from_outside(caught.value)
    assert signal.getsignal(signal.SIGINT) is theirs


def test_without_a_handler_of_ours_a_keyboard_interrupt_passes() -> None:
    assert comes_from_outside(KeyboardInterrupt())


def test_a_handler_that_an_optimizer_sets_is_taken_away() -> None:
    with interruptible():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_nothing_is_set_and_nothing_fails() -> None:
    seen = []

    def run() -> None:
        with fenced("cpu"):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
