"""Evidence: the case and the script beside a results file, read for the page.

A results file may come from anywhere. What it points to is read only inside the folder that it is in, or the current one, and
only where it is a case or a Python file: a page is shown to others, and must not quote other files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from frostproof.errors import CaseError
from frostproof.results.rows import InvariantRow, Results, SubjectRow
from frostproof.spec.casefile import CaseFile, load_case
from frostproof.spec.saved_files import read_bounded

LARGEST = 1 << 18


class Evidence(NamedTuple):
    """What there is of one counterexample; `path`: where its case was found."""

    path: Path | None = None
    case: CaseFile | None = None
    script: str | None = None


def located(results: Results, folder: Path) -> Results:
    """The results with the names of files as they are found from the current folder; `folder`: where the results file is."""
    for subject in results.subjects:
        rows: list[SubjectRow | InvariantRow] = [subject, *subject.invariants]
        for row in rows:
            row.case = str(_inside(row.case, ".json", (folder, Path())) or row.case or "") or None
            row.reproducer = (
                str(_inside(row.reproducer, ".py", (folder, Path())) or row.reproducer or "")
                or None
            )
    return results


def evidence(subject: SubjectRow, row: InvariantRow, folders: Sequence[Path]) -> Evidence:
    """The case and the script that a row of results names, where they can be read. A case of something else is none."""
    path, case = _inside(row.case, ".json", folders), None
    if path is not None:
        try:
            case = load_case(path)
        except CaseError:
            path = None
    if case is not None and (*subject.key, row.id, row.message) != (
        case.target,
        case.variant,
        case.device,
        case.invariant,
        case.message,
    ):
        path = case = None
    return Evidence(path, case, _script(row.reproducer, folders))


def evidence_of_crash(subject: SubjectRow, folders: Sequence[Path]) -> Evidence:
    """The case and the script that the row of a subject that crashed names, where they can be read."""
    path = _inside(subject.case, ".json", folders)
    try:
        case = None if path is None else load_case(path)
    except CaseError:
        case = None
    if case is None or subject.key != (case.target, case.variant, case.device):
        path = case = None
    return Evidence(path, case, _script(subject.reproducer, folders))


def _script(name: str | None, folders: Sequence[Path]) -> str | None:
    file = _inside(name, ".py", folders)
    try:
        return (
            None
            if file is None
            else read_bounded(file, LARGEST, "script").decode("utf-8", "replace")
        )
    except CaseError:
        return None


def _inside(name: str | None, suffix: str, folders: Sequence[Path]) -> Path | None:
    """The file of this name in one of the folders, links followed; None where it is outside."""
    for folder in folders if name and name.endswith(suffix) and name.isprintable() else ():
        try:
            path = folder / name  # type: ignore[operator]
            real = path.resolve()
            if (
                real.suffix == suffix
                and real.is_file()
                and any(real.is_relative_to(each.resolve()) for each in folders)
            ):
                return path
        except (OSError, RuntimeError, ValueError):
            continue
    return None
