"""The processes of a team, which train together: one for each rank, kept for many trials.

They talk to this process through their standard input and output, and to each other through a
process group on the loopback interface.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from frostproof.errors import LostError
from frostproof.process.fork_server import interpreter

LIMIT = 60.0
"""Seconds within which a rank must answer. One that does not is ended."""

LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
"""The network interface that no other machine reaches."""

INTERFACE = "GLOO_SOCKET_IFNAME"
"""The environment variable that names the interface on which gloo listens."""


class RankProcesses:
    """Processes that run one function each, such as `package.module:serve`.

    The function gets `receive`, which returns the next request, and `send` for its answer.
    """

    def __init__(self, serve: str, count: int) -> None:
        module, _, name = serve.partition(":")
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "from frostproof.process.ranks import run\n"
            f"from {module} import {name}\n"
            f"run({name})"
        )
        pipe = subprocess.PIPE
        self.processes = [
            subprocess.Popen([*interpreter(), "-u", "-c", code], stdin=pipe, stdout=pipe)
            for _ in range(count)
        ]
        self.to = [Connection(_kept(each.stdin), readable=False) for each in self.processes]
        self.of = [Connection(_kept(each.stdout), writable=False) for each in self.processes]

    def ask(self, requests: Sequence[Any]) -> list[Any]:
        """The answer of each rank to its request; a LostError for one that gave none.

        A rank that died, or did not answer in time, leaves the others alone. All are then ended,
        and answer nothing any more.
        """
        if self.to[0].closed:
            return [LostError(f"rank {rank} was ended") for rank, _ in enumerate(requests)]
        answers: list[Any] = [None] * len(requests)
        left = {}
        for rank, request in enumerate(requests):
            with suppress(BrokenPipeError):  # that it has died shows when it is waited for
                self.to[rank].send(request)
            left[self.of[rank]] = rank
        deadline, lost = time.monotonic() + LIMIT, False
        while left:
            ready = wait([*left], max(0.0, deadline - time.monotonic()))
            for connection in ready or [*left]:
                assert isinstance(connection, Connection)
                rank = left.pop(connection)
                try:
                    if not ready:
                        raise TimeoutError
                    answers[rank] = connection.recv()
                except (EOFError, OSError) as error:
                    answers[rank], lost = self._lost(rank, error), True
                    deadline = min(deadline, time.monotonic() + 10)  # the others wait in vain
        if lost:
            self.end()
        return answers

    def _lost(self, rank: int, error: Exception) -> LostError:
        if isinstance(error, TimeoutError):
            return LostError(f"rank {rank} did not answer for {LIMIT:g} s")
        code = self.processes[rank].wait()
        # A client of the fork server exits with the code of its fork, which is below 256.
        code = code - 256 if code > 128 else code
        if code >= 0:
            return LostError(f"rank {rank} exited with code {code}")
        why = ", as gloo does where ranks call unlike collectives" * (code == -signal.SIGABRT)
        return LostError(f"rank {rank} was ended by {signal.Signals(-code).name}{why}")

    @property
    def alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def end(self) -> None:
        """End all of them."""
        for process, *connections in zip(self.processes, self.to, self.of, strict=True):
            process.kill()
            process.wait()
            for connection in connections:
                connection.close()


def _kept(stream: Any) -> int:
    """A descriptor of a pipe that outlives the stream."""
    with stream:
        return os.dup(stream.fileno())


def run(serve: Callable[[Callable[[], Any], Callable[[Any], None]], None]) -> None:
    """Serve until nobody holds the other end. What the served code prints is dropped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The process that asks decides what it means.
    os.environ[INTERFACE] = LOOPBACK
    receiver, sender = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    with suppress(EOFError, BrokenPipeError):
        serve(receiver.recv, sender.send)
    os._exit(0)
