"""A live line on a terminal: trials, trials per second, violations, time left.

Each process that runs trials notes its counts in a file of its own, twice a second; the process that has the terminal reads
the files. Without a terminal, and in CI's logs, there is no line and nobody notes anything.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from frostproof.doors.pytest_plugin.node_ids import SUITE, parsed, weights
from frostproof.doors.pytest_plugin.options import Run

if TYPE_CHECKING:
    from frostproof.verification.verification import Verification

PERIOD = 0.5
PATIENCE = 2.0
"""Seconds between two looks, and before the line first shows: a short run needs none."""


class Counts(NamedTuple):
    """Of one process: trials, violated invariants, and examples of the test at which it is."""

    trials: int = 0
    violations: int = 0
    current: int = 0


class Meter:
    """Notes the counts of this process in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.finished = Counts()
        self.verification: Verification | None = None
        threading.Thread(target=self._note, daemon=True).start()

    def begin(self, verification: Verification) -> None:
        self.verification = verification

    def end(self) -> None:
        self.finished = self._counts()._replace(current=0)
        self.verification = None

    def _counts(self) -> Counts:
        now = self.verification
        if now is None:
            return self.finished
        violated = sum(bool(tally.violated) for tally in tuple(now.tallies.values()))
        return Counts(
            self.finished.trials + now.trials, self.finished.violations + violated, now.trials
        )

    def _note(self) -> None:
        with suppress(OSError):  # the folder goes when the run ends
            while True:
                new = self.path.with_suffix(".new")
                new.write_text(" ".join(map(str, self._counts())))
                new.replace(self.path)
                time.sleep(PERIOD)


class Line:
    """The line itself, drawn over and over in the terminal that this process has.

    `budgets`: node id -> examples to come; `most`: seconds that the run may take.
    """

    def __init__(self, folder: Path, budgets: dict[str, int], most: float | None = None) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.budgets = budgets
        self.total = sum(budgets.values())
        self.most = most
        self.done = 0
        self.started = time.monotonic()
        self._terminal = os.dup(
            sys.stdout.fileno()
        )  # while a test runs, pytest captures the original
        self._drawn = 0
        self._ended = threading.Event()
        self._drawing = threading.Thread(target=self._draw, daemon=True)
        self._drawing.start()

    def finish(self, identity: str) -> None:
        """The test with this node id is done."""
        self.done += self.budgets.get(identity, 0)

    def end(self) -> None:
        """Leave the terminal as if there had been no line."""
        if not self._ended.is_set():
            self._ended.set()
            self._drawing.join()
            self._write("")
            os.close(self._terminal)
            shutil.rmtree(self.folder, ignore_errors=True)

    def text(self) -> str:
        counts = [_read(path) for path in self.folder.glob("*.counts")]
        trials, elapsed = sum(each.trials for each in counts), time.monotonic() - self.started
        words = [
            f"frostproof: {trials:,} trials",
            f"{trials / elapsed:,.0f} trials/s",
            f"{sum(each.violations for each in counts)} violations",
        ]
        share = (
            (self.done + sum(each.current for each in counts)) / self.total if self.total else 0.0
        )
        left = [elapsed * max(0.0, 1 - share) / share] if share > 0.02 else []
        left += [max(0.0, self.most - elapsed)] if self.most is not None else []
        if left:
            words.append(f"{_duration(min(left))} left")
        return ", ".join(words)

    def _draw(self) -> None:
        if self._ended.wait(PATIENCE):
            return
        while not self._ended.wait(PERIOD):
            self._write(self.text())

    def _write(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        shown = text[:width]
        if shown or self._drawn:
            with suppress(OSError):
                os.write(self._terminal, f"\r{shown:{self._drawn}}\r{shown}".encode())
        self._drawn = len(shown)


class Live:
    """Our part in a session, as a plugin of its own: a meter in whoever runs trials, the line where the terminal is."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self.run = run
        self.is_worker = hasattr(config, "workerinput")
        self.folder: Path | None = None
        if self.is_worker:
            folder = config.workerinput.get("frostproof_progress")  # type: ignore[attr-defined]
            self.folder = Path(folder) if folder else None
        elif is_watched() and config.get_verbosity() <= 0:
            self.folder = Path(tempfile.gettempdir()) / f"frostproof-{secrets.token_hex(8)}"
        self.line: Line | None = None
        self.meter: Meter | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self.folder is not None:
            node.workerinput["frostproof_progress"] = str(self.folder)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not session.config.option.collectonly:
            self._start([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._start(ids)

    def _start(self, ids: list[str]) -> None:
        budgets = weights(ids, self.run.examples, self.run.shards)
        if self.folder is not None and not self.is_worker and self.line is None and budgets:
            self.line = Line(self.folder, budgets, self.run.time_budget)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        verification = (
            item.callspec.params.get("verification") if hasattr(item, "callspec") else None
        )
        if verification is None or self.folder is None or parsed(item.nodeid) is None:
            return (yield)
        if self.meter is None:
            self.meter = Meter(self.folder / f"{os.getpid()}.counts")
        self.meter.begin(verification)
        try:
            return (yield)
        finally:
            self.meter.end()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.line is not None and report.when == "call":
            self.line.finish(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """No letter for ours, which would stand in the middle of the line; they are counted all the same."""
        status = yield
        return (
            (status[0], "", "")
            if status and self.line is not None and SUITE.search(report.nodeid)
            else status
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self.line is not None:
            self.line.end()


def is_watched() -> bool:
    """Whether there is a terminal to draw in, and a person to look at it."""
    if os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stdout.isatty() and sys.stdout.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False


def _read(path: Path) -> Counts:
    try:
        return Counts(*map(int, path.read_text().split()))
    except (OSError, ValueError, TypeError):
        return Counts()


def _duration(seconds: float) -> str:
    """`1:05` of 65 seconds, `1:01:05` of an hour more."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
