"""What the page shows, ready to be written: texts, counts, and the names of styles."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from frostproof.errors import one_line
from frostproof.invariants.registry import BY_ID
from frostproof.report.attachments import Evidence, evidence, evidence_of_crash
from frostproof.report.network_code import conditions, hyperparameters, network
from frostproof.report.network_drawing import Drawing, Focus, drawing
from frostproof.report.terminal import reasons
from frostproof.results.baseline import Change, Key, compare
from frostproof.results.rows import InvariantRow, Results, SubjectRow
from frostproof.spec.program import Freeze, Thaw, mask_changes

STATUSES = {
    "violated": "violated",
    "crashed": "crashed",
    "doubtful": "doubtful",
    "cost": "costs",
    "expected": "known",
    "held": "held",
    "unusable": "not judged",
}
"""Status of a row -> its word, the worst first."""


class Cell(NamedTuple):
    """`kind` is the status, or `cost`; `anchor` leads to the counterexample; `change`: since the baseline."""

    id: str
    kind: str
    text: str
    title: str
    anchor: str
    change: Change | None


class Moment(NamedTuple):
    """An event of a program: what becomes frozen and trainable, how many parameters are frozen then, where the violation shows."""

    text: str
    freezes: tuple[str, ...]
    thaws: tuple[str, ...]
    frozen: int
    here: bool
    after: bool


class Shown(NamedTuple):
    """A case as the page shows it."""

    drawing: Drawing
    network: str
    timeline: tuple[Moment, ...]
    parameters: int
    mask: tuple[str, ...]
    hyperparameters: str
    conditions: str


class Example(NamedTuple):
    """A counterexample."""

    anchor: str
    subject: SubjectRow
    row: InvariantRow
    kind: str
    statement: str
    change: Change | None
    shown: Shown | None
    command: str
    script: str | None


class Row(NamedTuple):
    """One line of the matrix. `status` is the subject's, or `doubtful`, `expected` or `cost` where it held but for such.
    `command` and `script` run again what crashed it.
    """

    anchor: str
    subject: SubjectRow
    status: str
    library: str
    words: str
    cells: tuple[Cell, ...]
    examples: tuple[Example, ...]
    facts: tuple[tuple[str, str], ...]
    changes: frozenset[Change]
    command: str
    script: str | None

    @property
    def module(self) -> str:
        """The target's module with its colon, which gives way first where there is little room."""
        return self.subject.target[: len(self.subject.target) - len(self.name)]

    @property
    def name(self) -> str:
        return self.subject.target.rpartition(":")[2]


class Column(NamedTuple):
    id: str
    statement: str
    severity: str
    judged: int
    violated: int


class View(NamedTuple):
    results: Results
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    statuses: tuple[tuple[str, str, int], ...]
    devices: tuple[str, ...]
    libraries: tuple[str, ...]
    changes: tuple[tuple[Change, int], ...] | None
    gone: tuple[str, ...]

    @property
    def examples(self) -> Iterator[Example]:
        return (example for row in self.rows for example in row.examples)


def view(results: Results, folders: Sequence[Path], baseline: Results | None) -> View:
    since = compare(results, baseline) if baseline is not None else {}
    found = {each.id for row in results.subjects for each in row.invariants}
    identities = [*BY_ID, *sorted(found - BY_ID.keys())]
    worst = {"crashed": 0, "violated": 0, "doubtful": 1, "held": 2, "unusable": 3}
    subjects = sorted(
        results.subjects, key=lambda row: (worst[row.status], row.target, row.variant, row.device)
    )
    rows = tuple(
        _row(number, subject, identities, folders, since) for number, subject in enumerate(subjects)
    )
    judged, violated = Counter[str](), Counter[str]()
    for subject in subjects:
        for each in subject.invariants:
            judged[each.id] += each.judged
            violated[each.id] += each.status == "violated"
    counts = Counter(row.status for row in rows)
    return View(
        results,
        tuple(
            Column(
                id,
                *((BY_ID[id].statement, BY_ID[id].severity) if id in BY_ID else ("", "")),
                judged[id],
                violated[id],
            )
            for id in identities
        ),
        rows,
        tuple(
            (status, word, counts[status]) for status, word in STATUSES.items() if counts[status]
        ),
        tuple(dict.fromkeys(sorted(row.subject.device for row in rows))),
        tuple(dict.fromkeys(sorted(row.library for row in rows))),
        _counted(since) if baseline is not None else None,
        tuple(_gone(results, baseline)) if baseline is not None else (),
    )


def _counted(since: Mapping[Key, Change]) -> tuple[tuple[Change, int], ...]:
    counts = Counter(since.values())
    return tuple((change, counts[change]) for change in ("new", "fixed", "still"))


def _gone(results: Results, baseline: Results) -> Iterator[str]:
    have = {row.key for row in results.subjects}
    return (f"{row.name} on {row.device}" for row in baseline.subjects if row.key not in have)


def _row(
    number: int,
    subject: SubjectRow,
    identities: Sequence[str],
    folders: Sequence[Path],
    since: Mapping[Key, Change],
) -> Row:
    have = {each.id: each for each in subject.invariants}
    examples = tuple(
        _example(f"c{number}-{i}", subject, each, folders, since.get((*subject.key, each.id)))
        for i, each in enumerate(subject.invariants)
        if each.status in ("violated", "doubtful", "expected")
    )
    anchors = {example.row.id: example.anchor for example in examples}
    cells = tuple(
        _cell(id, have.get(id), anchors.get(id, ""), since.get((*subject.key, id)))
        for id in identities
    )
    kinds = {example.kind for example in examples}
    status: str = subject.status
    if status == "held":
        status = next(
            (kind for kind in ("violated", "doubtful", "cost", "expected") if kind in kinds), "held"
        )
    mine = frozenset(change for key, change in since.items() if key[:3] == subject.key)
    words = " ".join(
        (subject.name, subject.device, subject.version, subject.reason or "", *anchors)
    ).lower()
    library = subject.target.partition(":")[0].partition(".")[0]
    facts = (
        *_facts(subject),
        *(
            (f"explained: {each.id}", reasons(each))
            for each in subject.invariants
            if each.explained
        ),
    )
    crash = evidence_of_crash(subject, folders)
    return Row(
        f"s{number}",
        subject,
        status,
        library,
        words,
        cells,
        examples,
        facts,
        mine,
        _command(crash),
        crash.script,
    )


def _command(found: Evidence) -> str:
    return f"frostproof replay {shlex.quote(str(found.path))}" if found.path is not None else ""


def _facts(subject: SubjectRow) -> Iterator[tuple[str, str]]:
    for name, value in subject.facts.items():
        if isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, dict) and all(
            isinstance(each, int | float | str) for each in value.values()
        ):
            yield name, ", ".join(f"{key}: {each}" for key, each in value.items())
        elif isinstance(value, list) and all(isinstance(each, int | float | str) for each in value):
            yield name, ", ".join(map(str, value))
        else:
            yield (
                name,
                value if isinstance(value, str) else one_line(msgspec.json.encode(value).decode()),
            )


def _kind(row: InvariantRow) -> str:
    return "cost" if row.status == "violated" and row.severity == "cost" else row.status


_MARKS = {"violated": "✕ ", "doubtful": "D ", "expected": "✕ ", "cost": "$ "}
_WORDS = {
    "violated": "violated",
    "doubtful": "doubtful, seen and not shown by its script",
    "expected": "violated, as is known",
    "cost": "costs memory or time",
    "held": "held",
}


def _cell(identity: str, row: InvariantRow | None, anchor: str, change: Change | None) -> Cell:
    if row is None or row.status == "not-applicable":
        return Cell(identity, "none", "", f"{identity}: says nothing here", "", change)
    explained = f"; explained: {reasons(row)}" if row.explained else ""
    if row.status == "unreached":
        return Cell(identity, "unreached", "?", f"{identity}: never judged{explained}", "", change)
    kind = _kind(row)
    times = (
        f"{row.violated:,} of {row.judged:,} judgements"
        if row.violated
        else f"{row.judged:,} judgements"
    )
    text = f"{_MARKS.get(kind, '')}{_short(row.judged)}"
    title = f"{identity}: {_WORDS[kind]}, {times}{f', {change}' if change else ''}{explained}"
    return Cell(identity, kind, text, title, anchor, change)


def _short(number: int) -> str:
    """At most four signs: 950, 1.2k, 12k, 3.4M.

    >>> [_short(n) for n in (950, 1234, 99_950, 3_400_000)]
    ['950', '1.2k', '100k', '3.4M']
    """
    if abs(number) < 1000:
        return str(number)
    thousands, unit = (number / 1e3, "k") if abs(number) < 999_500 else (number / 1e6, "M")
    return f"{thousands:.1f}{unit}" if thousands < 9.95 else f"{thousands:.0f}{unit}"


def _example(
    anchor: str,
    subject: SubjectRow,
    row: InvariantRow,
    folders: Sequence[Path],
    change: Change | None,
) -> Example:
    found = evidence(subject, row, folders)
    statement = BY_ID[row.id].statement if row.id in BY_ID else ""
    return Example(
        anchor,
        subject,
        row,
        _kind(row),
        statement,
        change,
        _shown(found, row),
        _command(found),
        found.script,
    )


def _shown(found: Evidence, row: InvariantRow) -> Shown | None:
    if found.case is None:
        return None
    case = found.case.case
    fits = found.case.event is not None and 0 <= found.case.event < len(
        case.program
    )  # a file may say anything
    focus = Focus(
        found.case.event if fits else None,
        tuple(i for i in found.case.parameters if 0 <= i < len(case.parameters)),
    )
    frozen = (
        case.mask_timeline[focus.event].at_step
        if focus.event is not None
        else case.initially_frozen
    )
    timeline = tuple(
        Moment(
            repr(event),
            tuple(
                name
                for each in mask_changes(event)
                if isinstance(each, Freeze)
                for name in each.names
            ),
            tuple(
                name
                for each in mask_changes(event)
                if isinstance(each, Thaw)
                for name in each.names
            ),
            len(case.mask_timeline[number].at_step),
            number == focus.event,
            focus.event is not None and number > focus.event,
        )
        for number, event in enumerate(case.program)
    )
    return Shown(
        drawing(case, focus),
        network(case.architecture, frozen),
        timeline,
        len(case.parameters),
        case.mask,
        hyperparameters(case),
        ", ".join(conditions(case)),
    )
