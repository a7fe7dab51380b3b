"""The case files and scripts that a results file names, read for the HTML page.

A results file may come from anywhere, and its page may be shown to others. So a file is read only
if it is a case or a Python file inside the results file's folder or the current folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from frostproof.errors import CaseError
from frostproof.results.rows import InvariantRow, Results, SubjectRow
from frostproof.spec.casefile import CaseFile, load_case
from frostproof.spec.saved_files import read_bounded

LARGEST_SCRIPT = 1 << 18
"""Bytes of a script that is read."""


class Attachments(NamedTuple):
    """The files of one counterexample, as far as they can be read."""

    path: Path | None = None
    """Where the case file was found."""
    case: CaseFile | None = None
    script: str | None = None


def locate_files(results: Results, folder: Path) -> Results:
    """Change the file names in the results so that they hold from the current folder.

    `folder` is where the results file is.
    """
    folders = (folder, Path())
    for subject in results.subjects:
        rows: list[SubjectRow | InvariantRow] = [subject, *subject.invariants]
        for row in rows:
            row.case = str(_inside(row.case, ".json", folders) or row.case or "") or None
            script = _inside(row.reproducer, ".py", folders) or row.reproducer
            row.reproducer = str(script or "") or None
    return results


def read_attachments(
    subject: SubjectRow, row: InvariantRow, folders: Sequence[Path]
) -> Attachments:
    """The case and the script of an invariant's row. A case of another row is ignored."""
    path, case = _read_case(row.case, folders)
    if case is not None and not (
        _is_of(case, subject) and (case.invariant, case.message) == (row.id, row.message)
    ):
        path = case = None
    return Attachments(path, case, _read_script(row.reproducer, folders))


def read_crash_attachments(subject: SubjectRow, folders: Sequence[Path]) -> Attachments:
    """The case and the script of a crashed subject's row. A case of another row is ignored."""
    path, case = _read_case(subject.case, folders)
    if case is not None and not _is_of(case, subject):
        path = case = None
    return Attachments(path, case, _read_script(subject.reproducer, folders))


def _is_of(case: CaseFile, subject: SubjectRow) -> bool:
    return (case.target, case.variant, case.device) == subject.key[:3]


def _read_case(
    name: str | None, folders: Sequence[Path]
) -> tuple[Path, CaseFile] | tuple[None, None]:
    path = _inside(name, ".json", folders)
    try:
        return (None, None) if path is None else (path, load_case(path))
    except CaseError:
        return None, None


def _read_script(name: str | None, folders: Sequence[Path]) -> str | None:
    path = _inside(name, ".py", folders)
    try:
        content = None if path is None else read_bounded(path, LARGEST_SCRIPT, "script")
    except CaseError:
        return None
    return None if content is None else content.decode("utf-8", "replace")


def _inside(name: str | None, suffix: str, folders: Sequence[Path]) -> Path | None:
    """The file of this name in one of the folders.

    It must still be inside the folder after links are followed.
    """
    if not name or not name.endswith(suffix) or not name.isprintable():
        return None
    for folder in folders:
        try:
            path = folder / name
            real = path.resolve()
            inside = any(real.is_relative_to(each.resolve()) for each in folders)
            if real.suffix == suffix and real.is_file() and inside:
                return path
        except (OSError, RuntimeError, ValueError):
            continue
    return None
