"""Tasks in processes of their own, a few at a time: one that dies or hangs costs its own answer and no other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from frostproof.errors import LostError

Answer = TypeVar("Answer")


def each_alone(
    task: Callable[..., Answer],
    arguments: Sequence[tuple[Any, ...]],
    jobs: int,
    limit: float,
    preload: str,
    then: Callable[[Answer], Answer] = lambda answer: answer,
) -> Iterator[Answer | LostError]:
    """What `task` answers to each of `arguments`, in order, or why there is no answer.

    `limit`: seconds that one may take; `preload`: a module that all processes import, once for all where the system can fork.
    All of it must be picklable, but for `then`: what is done to an answer here, by as many threads as there are `jobs`.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload([preload])
    with ThreadPoolExecutor(jobs) as threads:

        def answered(given: tuple[Any, ...]) -> Answer | LostError:
            answer = _alone(context, task, given, limit)
            return answer if isinstance(answer, LostError) else then(answer)

        yield from threads.map(answered, arguments)


def _alone(
    context: Any, task: Callable[..., Answer], given: tuple[Any, ...], limit: float
) -> Answer | LostError:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, task, given), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit):
            return LostError(f"it took more than {limit:g} s")
        answer: Answer | LostError = ours.recv()
        return answer
    except EOFError:
        process.join(1)
        return LostError(f"its process died with exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()


def _answer(answers: Connection, task: Callable[..., Any], given: tuple[Any, ...]) -> None:
    try:
        answers.send(task(*given))
    except BaseException as error:  # exit() too is no answer
        answers.send(
            LostError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": "))
        )
