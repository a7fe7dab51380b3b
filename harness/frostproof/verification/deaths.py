"""What is left of a worker that died: the case that it had at hand, in a file, and a script in which a new process dies.

Imported by every run with workers, it imports neither torch nor Hypothesis until there is a death.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frostproof.process.case_notes import read_note

if TYPE_CHECKING:
    from frostproof.results.rows import SubjectRow
    from frostproof.spec.casefile import CaseFile

LIMIT = 180.0
"""Seconds for the search for one script, and for all that are left at the end of a run."""

SEARCHES_AT_ONCE = 4
"""Each search imports torch in a process of its own, and takes some hundred MiB of memory."""


class Search(NamedTuple):
    """A search that runs in the background, and what its script is saved with."""

    process: subprocess.Popen[bytes]
    started: float
    output: Path
    found: CaseFile


class Deaths:
    """The deaths of one run. `cases`: where case files go; `place`: from where targets are imported."""

    def __init__(self, cases: Path, place: Path, warn: Callable[[str], None]) -> None:
        self.cases, self.place, self.warn = cases, place, warn
        self.noted: dict[str, bytes] = {}
        self.searches: dict[tuple[str, str, str], Search] = {}
        self.waiting: dict[tuple[str, str, str], tuple[Path, CaseFile]] = {}
        """Case files whose scripts are still to be searched for."""
        self.temporary: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the workers write their notes."""
        if self.temporary is None:
            self.temporary = Path(tempfile.mkdtemp(prefix="frostproof-"))
        return self.temporary

    def learn(self, worker: str, nodeid: str) -> None:
        """Read what a worker had noted that died at this item; what an earlier one had noted of it stays where it noted nothing."""
        note = read_note(self.folder / worker)
        if note is not None and note[0] == nodeid:
            self.noted[nodeid] = note[1]

    def save(self, row: SubjectRow, nodeid: str) -> None:
        """Write the case at which this item died, name it in the row, and begin to look for its script. Without a note, nothing."""
        if nodeid not in self.noted or row.key in {*self.searches, *self.waiting}:
            return
        import msgspec

        from frostproof.spec.case import Case
        from frostproof.spec.casefile import CRASHED, CaseFile, save

        found = CaseFile(
            target=row.target,
            variant=row.variant,
            device=row.device,
            invariant=CRASHED,
            message=row.reason,
            case=msgspec.json.decode(self.noted[nodeid], type=Case),
        )
        try:
            path, _ = save(self.cases, found)
        except OSError as error:
            self.warn(f"no case can be written to {self.cases}: {error.strerror}")
            return
        row.case = str(path)
        self.waiting[row.key] = path, found
        self._start_searches()

    def _start_searches(self) -> None:
        """Start those that wait, as far as there is room."""
        while self.waiting and self.running < SEARCHES_AT_ONCE:
            key = next(iter(self.waiting))
            with suppress(OSError):  # which costs the script alone
                self._search(key, *self.waiting.pop(key))

    @property
    def running(self) -> int:
        """How many searches run now."""
        return sum(search.process.poll() is None for search in self.searches.values())

    def _search(self, key: tuple[str, str, str], path: Path, found: CaseFile) -> None:
        output = self.folder / f"script-{len(self.searches)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "frostproof.verification.death_script",
                    str(path.absolute()),
                ],
                cwd=self.place,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "PYTHONWARNINGS": "ignore",
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that it is ended with all that it has started
            )
        self.searches[key] = Search(process, time.monotonic(), output, found)

    def finish(self, rows: Iterable[SubjectRow]) -> None:
        """Wait for the scripts, within their time, and name them in the rows."""
        if not self.searches:
            return
        scripts: dict[tuple[str, str, str], str | None] = {}
        end = time.monotonic() + LIMIT
        while left := [key for key in self.searches if key not in scripts]:
            scripts[left[0]] = self._script(self.searches[left[0]], end)
            if time.monotonic() < end:
                self._start_searches()
        for row in rows:
            if row.case is not None and row.key in self.searches:
                row.reproducer = scripts.get(row.key)

    def _script(self, search: Search, end: float) -> str | None:
        """Wait for a search until `end`. Return the path of the script that it found, if any."""
        from frostproof.spec.casefile import save

        with suppress(OSError):
            try:
                last = min(end, search.started + LIMIT)
                code = search.process.wait(max(0, last - time.monotonic()))
            except subprocess.TimeoutExpired:
                _end(search.process)
                return None
            text = search.output.read_text(encoding="utf-8")
            if code == 0 and text:
                return str(save(self.cases, search.found, text)[1])
        return None

    def close(self) -> None:
        """End what still runs, and leave nothing behind."""
        for search in self.searches.values():
            if search.process.poll() is None:
                _end(search.process)
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            self.temporary = None


def _end(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
