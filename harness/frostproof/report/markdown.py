"""A summary in Markdown, for pull requests and CI."""

from __future__ import annotations

import re
from collections.abc import Iterator

from frostproof.errors import one_line
from frostproof.results.baseline import compare
from frostproof.results.rows import Results

LARGEST = 1 << 20
"""Bytes that the summary of a step on GitHub may have."""

RANKS = ("crashed", "violated", "doubtful", "unusable", "held")


def summary(results: Results, baseline: Results | None = None, largest: int = LARGEST) -> str:
    """Totals, what changed since the baseline, and a table of what is not simply held, the worst first; at most `largest` bytes."""
    total, environment = results.totals, results.environment
    head = [
        "## frostproof",
        "",
        f"{total.subjects} subjects, {total.trials:,} trials, {total.judgements:,} judgements in {total.seconds:.1f} s: "
        f"**{total.violated} violated**, {f'**{total.doubtful} doubtful**, ' if total.doubtful else ''}{total.unusable} not judged.",
        "",
        f"torch {code(environment.torch)}, profile {code(environment.profile)}, seed {environment.seed}, "
        f"devices {', '.join(map(code, environment.devices))}.",
        "",
    ]
    tables = [("| optimizer | device | status | what |", _rows(results))]
    if baseline is not None:
        tables.insert(
            0,
            (
                "| since the baseline | optimizer | device | invariant |",
                _changed(results, baseline),
            ),
        )
    left = largest - sum(len(line.encode()) + 1 for line in head) - 1024
    lines = head
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
    return "\n".join(lines)


def _rows(results: Results) -> Iterator[str]:
    for row in sorted(results.subjects, key=lambda row: RANKS.index(row.status)):
        faults = [
            f"**{each.id}**: {code(each.message or '')}"
            for each in row.invariants
            if each.status in ("violated", "doubtful")
        ]
        faults += [
            f"{each.id}: {code(each.message or '')}"
            for each in row.invariants
            if each.status == "expected"
        ]
        if faults or row.status != "held":
            files = [
                f"{word}: {code(file)}"
                for word, file in (("case", row.case), ("script", row.reproducer))
                if file
            ]
            what = "; ".join([*([code(row.reason)] if row.reason else []), *files, *faults])
            yield f"| {code(row.name)} | {code(row.device)} | {row.status} | {what} |"


def _changed(results: Results, baseline: Results) -> Iterator[str]:
    names = {row.key: code(row.name) for row in results.subjects}
    found = compare(results, baseline)
    for change in ("new", "fixed", "still"):
        for (*key, identity), each in found.items():
            if each == change:
                target, variant, device = key
                yield f"| **{change}** | {names[target, variant, device]} | {code(device)} | {code(identity)} |"


def code(text: str, longest: int = 400) -> str:
    """`text` from outside, cut to a length, in a span of code inside a table: nothing in it is a link, an image or a mention."""
    words = one_line(text, longest).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", words)), default=0))
    return f"{fence} {words} {fence}" if "`" in words else f"{fence}{words or ' '}{fence}"
