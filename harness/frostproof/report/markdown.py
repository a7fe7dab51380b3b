"""A summary in Markdown, for pull requests and CI."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import get_args

from frostproof.errors import one_line
from frostproof.report.terminal import remarks, subject_count
from frostproof.results.baseline import Change, compare, gone
from frostproof.results.rows import Results, SubjectRow
from frostproof.spec.ids import directness
from frostproof.spec.patterns import listed

STEP_SUMMARY_LIMIT = 1 << 20
"""Bytes that the summary of a step on GitHub may have."""

STATUS_ORDER = ("crashed", "violated", "doubtful", "unusable", "held")


def results_markdown(
    results: Results, baseline: Results | None = None, limit: int = STEP_SUMMARY_LIMIT
) -> str:
    """Totals, changes since the baseline, and a table of the subjects that did not hold.

    The worst subjects come first. The text has at most `limit` bytes.
    """
    lines = [*_head(results)]
    tables = [("| optimizer | device | status | what |", _rows(results))]
    if baseline is not None:
        title = "| since the baseline | optimizer | device | invariant |"
        tables.insert(0, (title, _changes(results, baseline)))
        if missing := gone(results, baseline):
            lines += [f"Not in this run: {code_span(listed(missing))}.", ""]
    left = limit - sum(len(line.encode()) + 1 for line in lines) - 1024
    for title, rows in tables:
        written = 0
        for row in rows:
            if not written:
                lines += [title, "|" + " --- |" * (title.count("|") - 1)]
            left -= len(row.encode()) + 1
            if left < 0:
                lines += ["", "More did not fit here: the JSON and the page have all of it."]
                return "\n".join(lines) + "\n"
            lines.append(row)
            written += 1
        if written:
            lines.append("")
    for line in _not_all(results):
        left -= len(line.encode()) + 1
        if left >= 0:
            lines.append(line)
    return "\n".join(lines)


def _not_all(results: Results) -> Iterator[str]:
    """What held, and what was not compared, drawn, tried or judged."""
    held = [
        row.name
        for row in results.subjects
        if row.status == "held" and not any(_faults(row, "expected"))
    ]
    if held:
        yield from (f"Held: {', '.join(map(code_span, held))}.", "")
    yield from (f"- {code_span(text, 1000)}" for text in remarks(results.subjects))
    yield ""


def _head(results: Results) -> Iterator[str]:
    total, environment = results.totals, results.environment
    counts = (
        f"{subject_count(total)}, {total.trials:,} trials, {total.judgements:,} judgements "
        f"in {total.seconds:.1f} s"
    )
    doubtful = f"**{total.doubtful} doubtful**, " if total.doubtful else ""
    failed = f"**{total.violated} violated**, {doubtful}{total.unusable} not judged"
    devices = ", ".join(map(code_span, environment.devices))
    seed = "several seeds" if environment.seed is None else f"seed {environment.seed}"
    run = f"profile {code_span(environment.profile)}, {seed}"
    yield from ("## frostproof", "", f"{counts}: {failed}.", "")
    yield from (f"torch {code_span(environment.torch)}, {run}, devices {devices}.", "")


def _rows(results: Results) -> Iterator[str]:
    for row in sorted(results.subjects, key=lambda row: STATUS_ORDER.index(row.status)):
        faults = [*_faults(row, "violated", "doubtful"), *_faults(row, "expected")]
        if faults or row.status != "held":
            files = [
                f"{word}: {code_span(file)}"
                for word, file in (("case", row.case), ("script", row.reproducer))
                if file
            ]
            reason = [code_span(row.reason)] if row.reason else []
            what = "; ".join([*reason, *files, *faults])
            yield f"| {code_span(row.name)} | {code_span(row.device)} | {_status(row)} | {what} |"


def _status(row: SubjectRow) -> str:
    """The status of a row with faults, or what it is if all of them were stated."""
    stale = [each.is_stale for each in row.invariants if each.status == "violated"]
    if row.status == "violated" and all(stale):
        return "stale"
    return "as expected" if row.status == "held" else row.status


def _faults(row: SubjectRow, *statuses: str) -> Iterator[str]:
    for each in sorted(row.invariants, key=lambda each: directness(each.id)):
        if each.status in statuses:
            name = each.id if each.status == "expected" else f"**{each.id}**"
            yield f"{name}: {code_span(each.message or '')}"


def _changes(results: Results, baseline: Results) -> Iterator[str]:
    names = {row.key: code_span(row.name) for row in results.subjects}
    found = compare(results, baseline)
    for change in get_args(Change):
        for (row, identity), each in found.items():
            if each == change:
                device = code_span(row.device)
                yield f"| **{change}** | {names[row]} | {device} | {code_span(identity)} |"


def paragraph(text: str, margin: str = "") -> str:
    """The text in lines of at most 100 columns, each after the margin."""
    return textwrap.fill(
        text,
        100,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def code_span(text: str, longest: int = 400) -> str:
    """Text from outside as a code span in a table, at most `longest` letters of it.

    Nothing in it becomes a link, an image or a mention.
    """
    words = one_line(text, longest).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", words)), default=0))
    return f"{fence} {words} {fence}" if "`" in words else f"{fence}{words or ' '}{fence}"
