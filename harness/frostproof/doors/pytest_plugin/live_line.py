"""A live line on the controller's terminal: trials, trials per second, violations, time left.

Without a terminal, and in CI, there is no line.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.items import PACKAGE, planned_examples
from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.doors.pytest_plugin.trial_counts import PERIOD_S, read_counts

DELAY_S = 2.0
"""Time before the line first shows: a short run needs none."""


class TerminalLine:
    """The line itself, drawn over and over on the terminal of this process."""

    def __init__(
        self, folder: Path, planned: dict[str, int], time_budget: float | None = None
    ) -> None:
        """`planned`: node id -> examples; `time_budget`: the seconds that the run may take."""
        self.folder, self.planned, self.time_budget = folder, planned, time_budget
        self.total = sum(planned.values())
        self.done = 0
        self.started = time.monotonic()
        # pytest captures the original descriptor while a test runs.
        self._terminal = os.dup(sys.stdout.fileno())
        self._drawn = 0
        self._ended = threading.Event()
        self._drawing = threading.Thread(target=self._draw, daemon=True)
        self._drawing.start()

    def finish(self, node_id: str) -> None:
        """Count the examples of a test that is done."""
        self.done += self.planned.get(node_id, 0)

    def end(self) -> None:
        """Leave the terminal as if there had been no line."""
        if not self._ended.is_set():
            self._ended.set()
            self._drawing.join()
            self._write("")
            os.close(self._terminal)

    def text(self) -> str:
        counts = [read_counts(path) for path in self.folder.glob("*.counts")]
        trials, elapsed = sum(each.trials for each in counts), time.monotonic() - self.started
        words = [
            f"frostproof: {trials:,} trials",
            f"{trials / elapsed:,.0f} trials/s",
            f"{sum(each.violations for each in counts)} violations",
        ]
        done = self.done + sum(each.current for each in counts)
        share = done / self.total if self.total else 0.0
        left = [elapsed * max(0.0, 1 - share) / share] if share > 0.02 else []
        if self.time_budget is not None:
            left.append(max(0.0, self.time_budget - elapsed))
        if left:
            words.append(f"{_duration(min(left))} left")
        return ", ".join(words)

    def _draw(self) -> None:
        if self._ended.wait(DELAY_S):
            return
        while not self._ended.wait(PERIOD_S):
            self._write(self.text())

    def _write(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        shown = text[:width]
        if shown or self._drawn:
            with suppress(OSError):
                os.write(self._terminal, f"\r{shown:{self._drawn}}\r{shown}".encode())
        self._drawn = len(shown)


class LiveLine:
    """A plugin of the controller. `folder` is where every process writes its counts."""

    def __init__(self, run: RunOptions) -> None:
        self.run = run
        self.folder = Path(tempfile.gettempdir()) / f"frostproof-{secrets.token_hex(8)}"
        self.line: TerminalLine | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["frostproof_counts"] = str(self.folder)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not session.config.option.collectonly:
            self._start(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._start(ids)

    def _start(self, node_ids: Iterable[str]) -> None:
        planned = planned_examples(node_ids, self.run.examples, self.run.shards)
        if planned and self.line is None:
            self.folder.mkdir(mode=0o700)
            self.line = TerminalLine(self.folder, planned, self.run.time_budget)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.line is not None and report.when == "call":
            self.line.finish(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """Count our tests as always, but print no letter for them in the middle of the line."""
        status = yield
        if status and self.line is not None and f"{PACKAGE}/" in report.nodeid:
            return status[0], "", ""
        return status

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self.line is not None:
            self.line.end()
            shutil.rmtree(self.folder, ignore_errors=True)


def is_watched() -> bool:
    """Whether there is a terminal to draw on, and probably a person who looks at it."""
    if os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stdout.isatty() and sys.stdout.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False


def _duration(seconds: float) -> str:
    """Format seconds as `1:05`, or with hours as `1:01:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
