"""Runs our items in a worker of pytest-xdist, which may die or hang without loss to the run."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frostproof.doors.pytest_plugin.item_runner import ItemRunner
from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.errors import TimeSpentError
from frostproof.process.case_notes import CaseNotes
from frostproof.process.heartbeat import listening

if TYPE_CHECKING:
    from frostproof.verification.item_report import ItemReport
    from frostproof.verification.verification import Verification

INTERIM_PERIOD_S = 5.0
"""Time between two interim findings. The last is all that is left of an item whose worker dies."""


class WorkerItemRunner(ItemRunner):
    def __init__(
        self, config: pytest.Config, run: RunOptions, worker_input: dict[str, Any]
    ) -> None:
        seed, time_left = worker_input["frostproof_seed"], worker_input["frostproof_time_left"]
        super().__init__(config, run, seed, time_left, int(worker_input["workercount"]))
        self._notes_file = Path(worker_input["frostproof_notes"]) / worker_input["workerid"]

    @functools.cached_property
    def notes(self) -> CaseNotes | None:
        """Where this worker notes its cases; None on a machine that is not the controller's."""
        try:
            return CaseNotes(self._notes_file)
        except OSError:
            return None

    def before_each_trial(
        self, item: pytest.Item, verification: Verification
    ) -> Callable[[], None]:
        """Return what checks the time, as in any process, and sends interim findings."""
        from frostproof.verification.item_report import item_report

        if self.notes is not None:
            verification.note_case = functools.partial(self.notes.write, item.nodeid)
        check_time = super().before_each_trial(item, verification)
        due = time.monotonic() + INTERIM_PERIOD_S

        def check_and_send() -> None:
            nonlocal due
            check_time()
            if (now := time.monotonic()) >= due:
                self.send_interim(item, item_report(verification))
                due = now + INTERIM_PERIOD_S

        return check_and_send

    def _on_heartbeat(self) -> None:
        """Postpone the end of this process, for its training goes on.

        The search of a slow optimizer ends before its time limit, which would end the process.
        """
        left = self.deadline - time.monotonic()
        if left < self.run.timeout / 4:
            raise TimeSpentError(f"most of its time limit of {self.run.timeout} s was spent")
        if self.run.event_timeout is not None:
            self._end_after(min(self.run.event_timeout, left))
            if self.notes is not None:
                self.notes.touch()

    def _end_after(self, seconds: float) -> None:
        """End this process if nothing calls this method again within these seconds."""
        import faulthandler

        if sys.__stderr__ is not None:
            left = max(1.0, seconds)  # faulthandler refuses 0 and less
            faulthandler.dump_traceback_later(left, exit=True, file=sys.__stderr__)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """End the process when an optimizer hangs; xdist then starts another worker."""
        import faulthandler

        self.deadline = time.monotonic() + self.run.timeout
        self._end_after(self.run.timeout)
        try:
            with listening(self._on_heartbeat):
                yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def report(self, item: pytest.Item, verification: Verification) -> ItemReport:
        found = super().report(item, verification)
        if self.notes is not None:
            self.notes.clear()
        return found
