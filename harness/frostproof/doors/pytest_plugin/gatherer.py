"""The gatherer: in the controller, it puts together what all items found."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.doors.pytest_plugin.report_properties import DOUBTFUL, FINDING, ROWS, WARNING
from frostproof.process.interruption import interruptions_postponed
from frostproof.spec.ids import directness

if TYPE_CHECKING:
    from frostproof.results.rows import InvariantRow, RowKey, SubjectRow
    from frostproof.spec.casefile import CaseFile

ENDED = "the run ended before its search did"


class Gatherer:
    def __init__(self, run: RunOptions) -> None:
        self.run = run
        self.rows: list[SubjectRow] = []
        """Of items that have ended."""
        self.interim: dict[str, SubjectRow] = {}
        """Node id -> what is known of an item that has not ended yet."""
        self.warnings: dict[str, str] = {}
        self._failures: set[bool] = set()
        """Of each test that failed, whether it did so only because of doubtful rows."""
        self._best: dict[tuple[RowKey, str], tuple[list[int], InvariantRow]] = {}
        """Subject and invariant -> the rank of the best counterexample, and its row."""

    def warn(self, text: str) -> None:
        """Keep a warning for the end; only the first that has the same text up to a colon."""
        self.warnings.setdefault(text.partition(": ")[0], text)

    def receive_collection(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failures.add(False)

    def receive(self, report: pytest.TestReport) -> None:
        """Take in a report: the findings of one that ended, or of an interim one ("setup")."""
        if report.failed:
            names = {name for name, _ in report.user_properties}
            self._failures.add(report.when == "call" and DOUBTFUL in names)
        if report.when == "teardown":  # It repeats the properties of the call.
            return
        for name, value in report.user_properties:
            if name == WARNING:
                self.warn(str(value))
            elif name == FINDING:
                with interruptions_postponed():
                    self._receive_finding(report, str(value))
            elif name == ROWS:
                self._receive_rows(str(value))

    def _receive_finding(self, report: pytest.TestReport, text: str) -> None:
        interim = report.when == "setup"
        row = self._row(text, interim=interim)
        if interim:
            self.interim[report.nodeid] = row
        else:
            self.interim.pop(report.nodeid, None)
            self.rows.append(row)

    def _receive_rows(self, text: str) -> None:
        import msgspec

        from frostproof.results.rows import SubjectRow

        self.rows += msgspec.json.decode(text, type=list[SubjectRow])

    def add_crash(self, row: SubjectRow) -> None:
        self._failures.add(False)
        self.rows.append(row)

    def _row(self, text: str, *, interim: bool) -> SubjectRow:
        """Decode the row of a finding, and write its counterexamples to the folder of cases."""
        import msgspec

        from frostproof.verification.item_report import ItemReport

        found = msgspec.json.decode(text, type=ItemReport)
        for broken in found.row.invariants:
            case = found.case_file(broken, self.run.way)
            if case is not None:
                script, doubtful = found.scripts.get(broken.id), broken.status == "doubtful"
                rank = [interim, doubtful, script is None, *found.sizes[broken.id]]
                self._keep_best(found.row, broken, case, script, rank)
        return found.row

    def _keep_best(
        self,
        row: SubjectRow,
        broken: InvariantRow,
        case: CaseFile,
        script: str | None,
        rank: list[int],
    ) -> None:
        """Save a counterexample, unless a better one was saved for the same invariant.

        The smallest is best of those whose script shows the violation. They come before those that
        are doubtful or have no script. Interim findings come last: their scripts are not run yet.
        """
        from frostproof.spec.casefile import save

        key = row.key, broken.id
        if key in self._best and rank > self._best[key][0]:
            return
        self._best[key] = rank, broken
        try:
            path, beside = save(Path(self.run.cases), case, script)
        except OSError as error:
            self.warn(f"no case can be written to {self.run.cases}: {error.strerror}")
        else:
            broken.case, broken.reproducer = str(path), str(beside) if beside else None

    def merge(self) -> list[SubjectRow]:
        """Return all that was found so far, one row for each subject and device."""
        from frostproof.results.rows import merge_rows

        rows = merge_rows([*self.rows, *self.interim.values()])
        for row in rows:
            for each in row.invariants:
                _, best = self._best.get((row.key, each.id), (None, None))
                if best is not None and each.status in ("expected", "doubtful", "violated"):
                    each.message, each.source = best.message, best.source
                    each.severity, each.violation_class = best.severity, best.violation_class
                    each.case, each.reproducer = best.case, best.reproducer
        return rows

    def close(self) -> None:
        """Mark the rows of items that have not ended when the run ends."""
        for row in self.interim.values():
            row.facts.setdefault("cut-short", ENDED)
            if not row.judgements:
                row.reason = ENDED
            for each in row.invariants:
                if each.status == "violated" and each.reproducer is None:
                    each.message = f"{each.message} (the run ended before its script was run)"

    @property
    def only_doubtful(self) -> bool:
        """Whether tests failed, and each of them only because of doubtful rows."""
        return self._failures == {True}


def failing_cases(rows: list[SubjectRow], *, strict: bool) -> Iterator[str]:
    """The case files of what fails the run: the most direct one of each optimizer first."""
    found = (
        [
            row.case,
            *(
                each.case
                for each in sorted(row.invariants, key=lambda each: directness(each.id))
                if each.status in ("violated", "doubtful") and each.is_grave(strict=strict)
            ),
        ]
        for row in rows
    )
    for cases in itertools.zip_longest(*(filter(None, each) for each in found)):
        yield from filter(None, cases)
