"""The values of the page's template: texts, counts, and the names of CSS classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec

from frostproof.errors import one_line
from frostproof.invariants.registry import BY_ID
from frostproof.report.attachments import Attachments, read_attachments, read_crash_attachments
from frostproof.report.failure_text import replay_command
from frostproof.report.network_code import case_code, case_conditions, hyperparameter_text
from frostproof.report.network_drawing import NetworkDrawing, ViolationPlace, draw_network
from frostproof.report.terminal import explained_reasons, remarks
from frostproof.results.baseline import Change, Key, compare, gone
from frostproof.results.rows import InvariantRow, Results, SubjectRow
from frostproof.spec.case import Case
from frostproof.spec.ids import directness
from frostproof.spec.program import Freeze, Thaw, mask_changes

STATUS_WORDS = {
    "violated": "violated",
    "crashed": "crashed",
    "doubtful": "doubtful",
    "cost": "costs",
    "expected": "known",
    "held": "held",
    "unusable": "not judged",
}
"""The status of a row, and its word on the page, the worst first."""


class InvariantCell(NamedTuple):
    """One invariant of one subject in the matrix."""

    id: str
    kind: str
    """The status, or `cost`."""
    text: str
    title: str
    anchor: str
    """Of the counterexample, or "" if there is none."""
    change: Change | None


class TimelineEntry(NamedTuple):
    """An event of a program."""

    text: str
    freezes: tuple[str, ...]
    thaws: tuple[str, ...]
    frozen: int
    """How many parameters are frozen during the event."""
    here: bool
    """Whether the violation occurred at this event."""
    after: bool
    """Whether the violation occurred at an earlier event."""


class CaseView(NamedTuple):
    drawing: NetworkDrawing | None
    """None for a user's model."""
    network: str
    timeline: tuple[TimelineEntry, ...]
    parameters: int
    mask: tuple[str, ...]
    hyperparameters: str
    conditions: str


class Counterexample(NamedTuple):
    anchor: str
    subject: SubjectRow
    row: InvariantRow
    kind: str
    statement: str
    change: Change | None
    shown: CaseView | None
    command: str
    script: str | None


class MatrixRow(NamedTuple):
    """One subject in the matrix."""

    anchor: str
    subject: SubjectRow
    status: str
    """The subject's status, or the gravest of `doubtful`, `cost` and `expected` if it held."""
    library: str
    words: str
    """The text that a search looks at."""
    cells: tuple[InvariantCell, ...]
    examples: tuple[Counterexample, ...]
    facts: tuple[tuple[str, str], ...]
    changes: frozenset[Change]
    command: str
    """Replays the crash of the subject, as does `script`."""
    script: str | None

    @property
    def classes(self) -> set[str]:
        """The classes of its violations."""
        return {each.violation_class for each in self.subject.invariants if each.violation_class}

    @property
    def module(self) -> str:
        """The target's module with its colon, which is cut first if there is little room."""
        return self.subject.target[: len(self.subject.target) - len(self.name)]

    @property
    def name(self) -> str:
        return self.subject.target.rpartition(":")[2]


class MatrixColumn(NamedTuple):
    id: str
    statement: str
    severity: str
    judged: int
    violated: int


class PageContext(NamedTuple):
    """All values of the template."""

    results: Results
    columns: tuple[MatrixColumn, ...]
    rows: tuple[MatrixRow, ...]
    statuses: tuple[tuple[str, str, int], ...]
    devices: tuple[str, ...]
    libraries: tuple[str, ...]
    changes: tuple[tuple[Change, int], ...] | None
    gone: tuple[str, ...]
    """Subjects of the baseline that are missing in this run."""
    remarks: tuple[str, ...]
    """What was not compared, drawn, tried or judged."""

    @property
    def expected(self) -> int:
        """How many subjects have a failure that was stated, and no other."""
        return sum(row.status == "expected" for row in self.rows)

    @property
    def classes(self) -> list[str]:
        """The classes of all violations."""
        return sorted(set[str]().union(*(row.classes for row in self.rows)))

    @property
    def has_stale(self) -> bool:
        """Whether something that was expected to fail held."""
        return any(example.kind == "stale" for example in self.examples)

    @property
    def examples(self) -> Iterator[Counterexample]:
        return (example for row in self.rows for example in row.examples)


def page_context(
    results: Results, folders: Sequence[Path], baseline: Results | None
) -> PageContext:
    """The values for these results. Case files and scripts are read from `folders`."""
    since = compare(results, baseline) if baseline is not None else {}
    seen = {each.id for row in results.subjects for each in row.invariants}
    identities = [*BY_ID, *sorted(seen - BY_ID.keys())]
    worst = {"crashed": 0, "violated": 0, "doubtful": 1, "held": 2, "unusable": 3}
    subjects = sorted(
        results.subjects, key=lambda row: (worst[row.status], row.target, row.variant, row.device)
    )
    rows = tuple(
        _matrix_row(number, subject, identities, folders, since)
        for number, subject in enumerate(subjects)
    )
    counts = Counter(row.status for row in rows)
    change_counts = Counter(since.values())
    return PageContext(
        results=results,
        columns=_columns(identities, subjects),
        rows=rows,
        statuses=tuple(
            (status, word, counts[status])
            for status, word in STATUS_WORDS.items()
            if counts[status]
        ),
        devices=tuple(sorted({row.subject.device for row in rows})),
        libraries=tuple(sorted({row.library for row in rows})),
        changes=None
        if baseline is None
        else tuple((change, change_counts[change]) for change in get_args(Change)),
        gone=() if baseline is None else tuple(gone(results, baseline)),
        remarks=tuple(remarks(subjects)),
    )


def _columns(identities: Sequence[str], subjects: Sequence[SubjectRow]) -> tuple[MatrixColumn, ...]:
    judged, violated = Counter[str](), Counter[str]()
    for subject in subjects:
        for each in subject.invariants:
            judged[each.id] += each.judged
            violated[each.id] += each.status == "violated"
    texts = {each.id: (each.statement, each.severity) for each in BY_ID.values()}
    return tuple(
        MatrixColumn(id, *texts.get(id, ("", "")), judged[id], violated[id]) for id in identities
    )


def _matrix_row(
    number: int,
    subject: SubjectRow,
    identities: Sequence[str],
    folders: Sequence[Path],
    since: Mapping[Key, Change],
) -> MatrixRow:
    rows = {each.id: each for each in subject.invariants}
    mine = {identity: change for (row, identity), change in since.items() if row == subject.key}
    examples = tuple(
        _counterexample(f"c{number}-{i}", subject, each, folders, mine.get(each.id))
        for i, each in enumerate(sorted(subject.invariants, key=lambda row: directness(row.id)))
        if each.status in ("violated", "doubtful", "expected")
    )
    anchors = {example.row.id: example.anchor for example in examples}
    parts = (subject.name, subject.device, subject.version, subject.reason or "", *anchors)
    crash = read_crash_attachments(subject, folders)
    return MatrixRow(
        anchor=f"s{number}",
        subject=subject,
        status=_row_status(subject, examples),
        library=subject.target.partition(":")[0].partition(".")[0],
        words=" ".join(parts).lower(),
        cells=tuple(
            _cell(id, rows.get(id), anchors.get(id, ""), mine.get(id)) for id in identities
        ),
        examples=examples,
        facts=tuple(_facts(subject)),
        changes=frozenset(mine.values()),
        command=_command(crash),
        script=crash.script,
    )


def _row_status(subject: SubjectRow, examples: Sequence[Counterexample]) -> str:
    if subject.status != "held":
        return subject.status
    kinds = {example.kind for example in examples}
    faults = ("violated", "doubtful", "cost", "expected")
    return next((kind for kind in faults if kind in kinds), "held")


def _command(found: Attachments) -> str:
    return replay_command(found.path) if found.path is not None else ""


def _facts(subject: SubjectRow) -> Iterator[tuple[str, str]]:
    for name, value in subject.facts.items():
        if isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, dict) and _are_plain(value.values()):
            yield name, ", ".join(f"{key}: {each}" for key, each in value.items())
        elif isinstance(value, list) and _are_plain(value):
            yield name, ", ".join(map(str, value))
        elif isinstance(value, str):
            yield name, value
        else:
            yield name, one_line(msgspec.json.encode(value).decode())
    for each in subject.invariants:
        if each.explained:
            yield f"explained: {each.id}", explained_reasons(each)


def _are_plain(values: Iterable[object]) -> bool:
    return all(isinstance(each, int | float | str) for each in values)


def _kind(row: InvariantRow) -> str:
    if row.is_stale:
        return "stale"
    return "cost" if row.status == "violated" and row.severity == "cost" else row.status


_MARKS = {"violated": "✕ ", "stale": "S ", "doubtful": "D ", "expected": "✕ ", "cost": "$ "}
_WORDS = {
    "violated": "violated",
    "stale": "stale, expected to fail but held",
    "doubtful": "doubtful, seen in a trial but not shown by its script",
    "expected": "violated, as expected",
    "cost": "costs memory or time",
    "held": "held",
}


def _cell(
    identity: str, row: InvariantRow | None, anchor: str, change: Change | None
) -> InvariantCell:
    if row is None or row.status == "not-applicable":
        return InvariantCell(identity, "none", "", f"{identity}: does not apply", "", change)
    explained = f"; explained: {explained_reasons(row)}" if row.explained else ""
    if row.status == "unreached":
        title = f"{identity}: never judged{explained}"
        return InvariantCell(identity, "unreached", "?", title, "", change)
    kind = _kind(row)
    of_all = f"{row.violated:,} of " if row.violated else ""
    since = f", {change}" if change else ""
    title = f"{identity}: {_WORDS[kind]}, {of_all}{row.judged:,} judgements{since}{explained}"
    text = f"{_MARKS.get(kind, '')}{_short_number(row.judged)}"
    return InvariantCell(identity, kind, text, title, anchor, change)


def _short_number(number: int) -> str:
    """A number in at most four letters.

    >>> [_short_number(n) for n in (950, 1234, 99_950, 3_400_000)]
    ['950', '1.2k', '100k', '3.4M']
    """
    if abs(number) < 1000:
        return str(number)
    thousands, unit = (number / 1e3, "k") if abs(number) < 999_500 else (number / 1e6, "M")
    return f"{thousands:.1f}{unit}" if thousands < 9.95 else f"{thousands:.0f}{unit}"


def _counterexample(
    anchor: str,
    subject: SubjectRow,
    row: InvariantRow,
    folders: Sequence[Path],
    change: Change | None,
) -> Counterexample:
    found = read_attachments(subject, row, folders)
    return Counterexample(
        anchor=anchor,
        subject=subject,
        row=row,
        kind=_kind(row),
        statement=BY_ID[row.id].statement if row.id in BY_ID else "",
        change=change,
        shown=_case_view(found),
        command=_command(found),
        script=found.script,
    )


def _case_view(found: Attachments) -> CaseView | None:
    if found.case is None:
        return None
    case, event = found.case.case, found.case.event_in_program
    parameters = tuple(i for i in found.case.parameters if 0 <= i < len(case.parameters))
    return CaseView(
        drawing=draw_network(case, ViolationPlace(event, parameters))
        if case.architecture.knows_layers
        else None,
        network=case_code(case, event),
        timeline=_timeline(case, event),
        parameters=len(case.parameters),
        mask=case.mask,
        hyperparameters=hyperparameter_text(case),
        conditions=", ".join(case_conditions(case)),
    )


def _timeline(case: Case, violated_at: int | None) -> tuple[TimelineEntry, ...]:
    entries = []
    for number, event in enumerate(case.program):
        edits = mask_changes(event)
        entry = TimelineEntry(
            text=repr(event),
            freezes=tuple(n for each in edits if isinstance(each, Freeze) for n in each.names),
            thaws=tuple(n for each in edits if isinstance(each, Thaw) for n in each.names),
            frozen=len(case.mask_timeline[number].at_step),
            here=number == violated_at,
            after=violated_at is not None and number > violated_at,
        )
        entries.append(entry)
    return tuple(entries)
