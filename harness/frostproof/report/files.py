"""The files that a run, or a merge of runs, writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from frostproof.errors import UsageError
from frostproof.report.markdown import STEP_SUMMARY_LIMIT, results_markdown
from frostproof.results.rows import Results


def write_reports(
    results: Results,
    *,
    json: Path | None = None,
    markdown: Path | None = None,
    html: Path | None = None,
    folders: Sequence[Path] = (),
    baseline: Results | None = None,
) -> None:
    """Write the files that are asked for, and the step summary if this is a step on GitHub.

    Case files and scripts are read from `folders`. Raises UsageError if a file cannot be written.
    """
    if json is not None:
        write_file(json, results.to_json())
    if markdown is not None:
        write_file(markdown, results_markdown(results, baseline).encode())
    if html is not None:
        from frostproof.report.html.page import results_page

        write_file(html, results_page(results, folders, baseline).encode())
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if step and (markdown is None or markdown.resolve() != Path(step).resolve()):
        _append(Path(step), results, baseline)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically: an existing one is replaced at the end. Raises UsageError."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise UsageError(
            f"cannot write {str(path)!r} ({error.strerror}): name a file that can be written"
        ) from None


def make_folder(folder: Path) -> None:
    """Make the folder if it does not exist. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {str(folder)!r} ({error.strerror}): name one that can be made"
        ) from None


def _append(path: Path, results: Results, baseline: Results | None) -> None:
    """Add to the step summary of GitHub, which loses all of it if it grows over its limit."""
    try:
        there = path.stat().st_size if path.exists() else 0
        if there + 4096 < STEP_SUMMARY_LIMIT:
            with path.open("ab") as file:
                file.write(results_markdown(results, baseline, STEP_SUMMARY_LIMIT - there).encode())
    except OSError:
        return  # a run does not fail because of its summary
