"""Workers that die: the case that killed one is saved, with a script in which a new process dies.

Every run with workers imports this module, so it imports neither torch nor Hypothesis before a
death.
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
    from frostproof.results.rows import RowKey, SubjectRow
    from frostproof.spec.casefile import CaseFile

LIMIT = 180.0
"""Seconds for the search for one script, and for all searches that are left at the end of a run."""

SHORTEST, LONGEST = 20, 45
"""Seconds after which a script takes a training to hang; within them, those of the user's timeout.

A training takes a few seconds, and importing torch as long again."""

SEARCHES_AT_ONCE = 4
"""Each search imports torch in a process of its own, which takes some hundred MiB."""


class Search(NamedTuple):
    """A search for a script, which runs in the background."""

    process: subprocess.Popen[bytes]

    started: float
    """When it started, in seconds of `time.monotonic()`."""

    output: Path
    """Where it writes the script."""

    found: CaseFile
    """What the script is saved with."""


class Deaths:
    """The deaths of one run. Case files go to `cases`, and targets are imported from `folder`.

    `timeout`: the seconds that one optimizer may take.
    """

    def __init__(
        self,
        cases: Path,
        folder: Path,
        warn: Callable[[str], None],
        timeout: float,
        way: str | None = None,
    ) -> None:
        """`way`: `module:name` of the user's own way to freeze, under which they died."""
        self.cases, self.import_folder, self.warn, self.way = cases, folder, warn, way or ""
        self.hung_after = int(min(LONGEST, max(SHORTEST, timeout)))
        self.noted: dict[str, bytes] = {}
        self.searches: dict[RowKey, Search] = {}
        self.waiting: dict[RowKey, tuple[Path, CaseFile]] = {}
        """Saved cases whose searches have not started."""
        self.temporary: Path | None = None

    @property
    def notes_folder(self) -> Path:
        """Where the workers write their notes."""
        if self.temporary is None:
            self.temporary = Path(tempfile.mkdtemp(prefix="frostproof-"))
        return self.temporary

    def learn(self, worker: str, nodeid: str) -> float:
        """Read the note of a worker that died at this item. Without one, an earlier note stays.

        Returns the seconds since its last sign of life; 0 without a note.
        """
        path = self.notes_folder / worker
        note = read_note(path)
        if note is None or note[0] != nodeid:
            return 0.0
        self.noted[nodeid] = note[1]
        return time.time() - path.stat().st_mtime

    def save(self, row: SubjectRow, nodeid: str) -> None:
        """Write the noted case, name it in the row, and start the search for its script."""
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
            way=self.way,
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
        """Start waiting searches, up to the limit."""
        while self.waiting and self.running < SEARCHES_AT_ONCE:
            key = next(iter(self.waiting))
            with suppress(OSError):  # only the script is lost
                self._search(key, *self.waiting.pop(key))

    @property
    def running(self) -> int:
        """The number of searches that run now."""
        return sum(search.process.poll() is None for search in self.searches.values())

    def _search(self, key: RowKey, path: Path, found: CaseFile) -> None:
        output = self.notes_folder / f"script-{len(self.searches)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "frostproof.verification.death_script",
                    str(path.absolute()),
                    str(self.hung_after),
                ],
                cwd=self.import_folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "PYTHONWARNINGS": "ignore",
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that its own processes can be ended with it
            )
        self.searches[key] = Search(process, time.monotonic(), output, found)

    def finish(self, rows: Iterable[SubjectRow]) -> None:
        """Wait for the scripts, up to their time limits, and name them in the rows."""
        if not self.searches:
            return
        scripts: dict[RowKey, str | None] = {}
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
                _kill(search.process)
                return None
            text = search.output.read_text(encoding="utf-8")
            if code == 0 and text:
                return str(save(self.cases, search.found, text)[1])
        return None

    def close(self) -> None:
        """End the running searches, and remove the notes."""
        for search in self.searches.values():
            if search.process.poll() is None:
                _kill(search.process)
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            self.temporary = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
