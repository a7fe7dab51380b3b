"""Trials on several ranks: each process of a team has the copies of a case, and its own batches."""

from __future__ import annotations

import atexit
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from frostproof.approaches.approach import Approach
from frostproof.errors import LostError, UnusableError, one_line
from frostproof.process.fence import fenced
from frostproof.process.ranks import RankProcesses
from frostproof.spec.case import Case, Positions, Role
from frostproof.spec.setting import COLLECTIVE_LIMIT
from frostproof.spec.subject import Subject
from frostproof.training.bits import nans_alike, nans_are_alike
from frostproof.training.observation import Bits, Crash, Observation
from frostproof.trial.copies import Copies

Request = tuple[str, tuple[Any, ...]]

LIMITS = (COLLECTIVE_LIMIT, 4 * COLLECTIVE_LIMIT, 1)
"""Seconds for a collective of an optimizer that has hung never, once, and more often.

The first time a rank may have waited for a slow machine, so that trial is run again.
"""


class Team:
    """The ranks that train together. They are started once, and joined anew after each crash."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.processes = RankProcesses(f"{__name__}:serve", count)
        self.store = tempfile.TemporaryDirectory(prefix="frostproof-")
        self.groups = 0
        self.joined = False
        self.subject: Subject | None = None
        self.hangs = 0
        """How often the subject has hung."""

    def begin(self, case: Case, subject: Subject, *rest: Any) -> None:
        """Build the copies of a case on each rank. Raises UnusableError, and LostError."""
        # What only draws and reports need may be something that cannot be sent.
        sent = replace(
            subject,
            space=(),
            needs=(),
            stated={},
            expected_failures={},
            expected_in={},
            known_cases={},
        )
        try:
            request = pickle.dumps((case, sent, *rest))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            reason = f"another process cannot import what it is built with: {error}"
            raise UnusableError(
                f"{one_line(reason)}; define it at the top level of a module"
            ) from None
        if not self.joined:
            self._join(subject)
        self.ask_each([("begin", (request, nans_are_alike()))] * self.count)

    def _join(self, subject: Subject) -> None:
        """Make a new process group of all ranks."""
        if self.subject is None or self.subject.factory is not subject.factory:
            self.subject, self.hangs = subject, 0
        seconds = LIMITS[min(self.hangs, len(LIMITS) - 1)]
        self.groups += 1
        path = str(Path(self.store.name) / str(self.groups))
        requests = [("join", (path, rank, self.count, seconds)) for rank in range(self.count)]
        self.ask_each(requests)
        self.joined = True

    def ask_each(self, requests: Sequence[Request]) -> None:
        """Let each rank do what its request says. Raises LostError."""
        for answer in self.processes.ask(requests):
            if isinstance(answer, LostError):
                raise answer


class RankedCopies:
    """The copies of a case on all ranks of a team."""

    def __init__(
        self,
        case: Case,
        subject: Subject,
        device: str,
        roles: Mapping[Role, Approach],
        watched: Positions,
    ) -> None:
        """Raises UnusableError if the subject cannot be sent to another process."""
        self.team = _team(subject.setting.ranks)
        self.last: dict[tuple[Role, int], Observation] = {}
        self.team.begin(case, subject, device, dict(roles), watched)

    def call(self, role: Role, method: str, *arguments: Any) -> list[Observation | Crash]:
        """What a method of this role's copy returns on each rank."""
        number = arguments[0] if method == "run" else -1
        answers: list[Any] = self.team.processes.ask(
            [("call", (role, method, *arguments))] * self.team.count
        )
        for rank, answer in enumerate(answers):
            if isinstance(answer, LostError):
                answers[rank] = Crash(role, number, "step", answer)
            if isinstance(answer, Observation):
                answer.previous = self.last.get((role, rank))
                self.last[role, rank] = answer
        self._note([each for each in enumerate(answers) if isinstance(each[1], Crash)])
        return answers

    def restore(self, role: Role, weights: Sequence[Mapping[int, Bits]]) -> None:
        """Give parameters of this role's copy, by their positions, values: those of each rank."""
        self.team.ask_each([("call", (role, "restore", each)) for each in weights])

    def _note(self, crashes: Sequence[tuple[int, Crash]]) -> None:
        """Note which ranks crashed. After the first hang the trial is to be run again."""
        hung = any(crash.waited for _, crash in crashes)
        for rank, crash in crashes:
            crash.rank, self.team.joined = rank, False
            if hung and not self.team.hangs:
                crash.error = LostError(str(crash.error))
        self.team.hangs += hung


_TEAMS: dict[int, Team] = {}
"""The team of this process for each number of ranks."""


def _team(count: int) -> Team:
    if count not in _TEAMS or not _TEAMS[count].processes.alive:
        _TEAMS[count] = Team(count)
    return _TEAMS[count]


@atexit.register
def _end_teams() -> None:
    for team in _TEAMS.values():
        if team.processes.alive:
            team.processes.end()
        team.store.cleanup()


# In the process of a rank


def serve(receive: Callable[[], Request], send: Callable[[Any], None]) -> None:
    """Answer requests until no more come."""
    with fenced("cpu"):
        rank = _Rank()
        while True:
            method, arguments = receive()
            send(getattr(rank, method)(*arguments))


class _Rank:
    copies: Copies
    alike: bool
    """Whether every NaN of these copies has the same bits."""

    def join(self, path: str, rank: int, count: int, seconds: int) -> None:
        distributed: Any = torch.distributed
        if distributed.is_initialized():
            distributed.destroy_process_group()
        distributed.init_process_group(
            "gloo",
            store=distributed.FileStore(path, count),
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=seconds),
        )
        self.seconds = seconds

    def begin(self, request: bytes, alike: bool) -> None:
        self.copies, self.alike = Copies(*pickle.loads(request)), alike

    def call(self, role: Role, method: str, *arguments: Any) -> Any:
        started = time.monotonic()
        with nans_alike(self.alike):
            (answer,) = self.copies.call(role, method, *arguments)
        if isinstance(answer, Observation):
            return replace(answer, previous=None)
        if isinstance(answer, Crash):
            answer.waited = self._waited(answer, time.monotonic() - started)
            answer.error = _sendable(answer.error, answer.waited, self.seconds)
        return answer

    def _waited(self, crash: Crash, seconds: float) -> str:
        """The collective in which it waited until the limit; empty if that is not why it raised."""
        if seconds < 0.9 * self.seconds or not isinstance(crash.error, RuntimeError):
            return ""
        frames = traceback.extract_tb(crash.error.__traceback__)
        names = [f.name for f in frames if f.filename.endswith("distributed_c10d.py")]
        public = [name for name in names if not name.startswith("_") and name != "wrapper"]
        return f"{public[0]}()" if public else f"a collective of the {crash.phase} pass"


def _sendable(error: BaseException, waited: str, seconds: int) -> BaseException:
    """The exception, or one that another process can receive."""
    if waited:
        text = f"waited {seconds} s in {waited}, which not every rank called"
        return RuntimeError(text)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a class of its own does
        text = one_line(f"{type(error).__name__}: {error}")
        builtin = next(each for each in type(error).__mro__ if each.__module__ == "builtins")
        with suppress(TypeError):  # a script catches this one
            found: BaseException = builtin(text)
            return found
        return RuntimeError(text)
    return error.with_traceback(None)
