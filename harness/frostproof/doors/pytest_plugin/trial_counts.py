"""The counts of each process that runs trials, which it keeps in a file for the live line."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from frostproof.doors.pytest_plugin.items import parse_node_id, verification_of

if TYPE_CHECKING:
    from frostproof.verification.verification import Verification

PERIOD_S = 0.5
"""Time between two writings, and between two looks of the live line at them."""


class TrialCounts(NamedTuple):
    trials: int = 0
    violations: int = 0
    """The number of violated invariants."""
    current: int = 0
    """The number of trials of the item that is running."""


def read_counts(path: Path) -> TrialCounts:
    try:
        return TrialCounts(*map(int, path.read_text().split()))
    except (OSError, ValueError, TypeError):
        return TrialCounts()


class CountsWriter:
    """A plugin of each process that runs items."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{os.getpid()}.counts"
        self.finished = TrialCounts()
        self.verification: Verification | None = None
        self._thread: threading.Thread | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        verification = verification_of(item)
        if verification is None or parse_node_id(item.nodeid) is None:
            return (yield)
        self.verification = verification
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()
        try:
            return (yield)
        finally:
            self.finished = self._counts()._replace(current=0)
            self.verification = None

    def _counts(self) -> TrialCounts:
        now = self.verification
        if now is None:
            return self.finished
        violated = sum(bool(tally.violated) for tally in tuple(now.tallies.values()))
        trials, violations, _ = self.finished
        return TrialCounts(trials + now.trials, violations + violated, now.trials)

    def _write(self) -> None:
        with suppress(OSError):  # The controller removes the folder when the run ends.
            while True:
                new = self.path.with_suffix(".new")
                new.write_text(" ".join(map(str, self._counts())))
                new.replace(self.path)
                time.sleep(PERIOD_S)
