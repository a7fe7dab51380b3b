"""Tasks in processes of their own: one that dies or hangs loses its own answer and no other."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from frostproof.errors import LostError

Answer = TypeVar("Answer")

ENDS = threading.Lock()
"""Held while a process starts and while an exit code is read.

`multiprocessing` reads the exit codes of all children whenever it starts a process. Two threads
that read one at the same time would both believe to be the first, and one would get 255.
"""


def run_isolated(
    task: Callable[..., Answer],
    arguments: Sequence[tuple[Any, ...]],
    jobs: int,
    limit: float,
    preload: str,
    then: Callable[[Answer], Answer] = lambda answer: answer,
) -> Iterator[Answer | LostError]:
    """Yield, in order, what `task` returns for each of `arguments`, or why it returned nothing.

    At most `jobs` tasks run at a time, each for at most `limit` seconds. All processes import the
    module `preload`, once for all where the system can fork. Tasks, arguments and answers must be
    picklable. `then` processes each answer further in a thread of this process.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload([preload])
    with ThreadPoolExecutor(jobs) as threads:

        def run(given: tuple[Any, ...]) -> Answer | LostError:
            answer = _run_alone(context, task, given, limit)
            return answer if isinstance(answer, LostError) else then(answer)

        yield from threads.map(run, arguments)


def _run_alone(
    context: Any, task: Callable[..., Answer], given: tuple[Any, ...], limit: float
) -> Answer | LostError:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_answer, args=(sender, task, given), daemon=True)
    with ENDS:
        process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            return LostError(f"it took more than {limit:g} s")
        answer: Answer | LostError = receiver.recv()
        return answer
    except EOFError:
        with ENDS:
            process.join(1)
            return LostError(f"its process died with exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send_answer(sender: Connection, task: Callable[..., Any], given: tuple[Any, ...]) -> None:
    try:
        sender.send(task(*given))
    except BaseException as error:  # A task that calls exit() has no answer either.
        text = " ".join(str(error).split())[:300]
        sender.send(LostError(f"{type(error).__name__}: {text}".rstrip(": ")))
