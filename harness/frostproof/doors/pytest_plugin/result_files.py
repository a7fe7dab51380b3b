"""The files of a run: the results of an earlier run, and the results that this one writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from frostproof.doors.pytest_plugin.options import REPORTS, RunOptions
from frostproof.errors import FrostproofError

if TYPE_CHECKING:
    from frostproof.results.rows import Results

FLUSH_PERIOD_S = 60.0
"""Time between two writings of the results so far."""


class ResultFiles:
    def __init__(self, run: RunOptions, warn: Callable[[str], None]) -> None:
        self.run = run
        self.baseline = _baseline(run, warn)
        self._last_flush = time.monotonic()

    def flush(self, results: Callable[[], Results]) -> None:
        """Write the JSON file with the results so far, if it is time to."""
        if not self.run.json or time.monotonic() - self._last_flush <= FLUSH_PERIOD_S:
            return
        from frostproof.report.files import write_file

        self._last_flush = time.monotonic()
        with suppress(FrostproofError):  # The last writing reports the error.
            write_file(Path(self.run.json), results().to_json())

    def write(self, results: Results) -> None:
        """Write every file that was asked for. Raises UsageError."""
        from frostproof.report.files import write_reports

        named = {kind: getattr(self.run, kind) for kind in REPORTS}
        files = {kind: Path(name) for kind, name in named.items() if name}
        folders = (Path(), Path(self.run.cases))
        write_reports(results, **files, folders=folders, baseline=self.baseline)


def _baseline(run: RunOptions, warn: Callable[[str], None]) -> Results | None:
    """Read the results to compare with: of `--baseline`, or in a nightly run of last night.

    Raises UsageError if the file that `--baseline` names is not readable.
    """
    nightly = run.profile == "nightly" and run.json and Path(run.json).is_file()
    if not run.baseline and not nightly:
        return None
    from frostproof.results.files import load_results

    if run.baseline:
        return load_results(Path(run.baseline))
    try:
        return load_results(Path(str(run.json)))
    except FrostproofError as error:
        warn(f"the last results cannot be read: {error}")
        return None
