"""Writes docs/zoo.md from the results of `frostproof check --zoo`.

Usage: python benchmarks/zoo.py RESULTS.json [REMARK] > docs/zoo.md
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from frostproof.invariants.registry import BY_ID
from frostproof.results.files import load_results
from frostproof.results.rows import Results, SubjectRow


def zoo_page(path: Path, remark: str = "") -> str:
    results = load_results(path)
    rows = [row for row in results.subjects if row.target != "torch.autograd"]
    rows.sort(key=lambda row: (row.target.lower(), row.variant))
    libraries = defaultdict(list)
    for row in rows:
        libraries[row.target.partition(".")[0].partition(":")[0]].append(row)
    lines = ["# The zoo", "", _head(results, rows), ""]
    lines += [remark, ""] if remark else []
    for library, members in sorted(libraries.items()):
        lines += [f"## {library} {members[0].version}", "", *_library(members), ""]
    return "\n".join(lines)


def _head(results: Results, rows: Sequence[SubjectRow]) -> str:
    environment = results.environment
    classes = {row.target for row in rows}
    judged = {row.target for row in rows if row.status != "unusable"}
    return (
        f"Made from `frostproof check --zoo --seed {environment.seed}` "
        f"(profile {environment.profile}, torch {environment.torch}, "
        f"frostproof {environment.frostproof}): "
        f"{len(judged)} of {len(classes)} optimizer classes judged, "
        f"{len(rows)} implementations, {results.totals.judgements:,} judgements. "
        "Every violation here was shown by its script in a fresh process, with torch and the "
        "library alone. A row marked *doubtful* was seen in a trial, but its script did not show "
        "it. [subjects.md](subjects.md) says how kinds of findings are told apart."
    )


def _library(rows: Sequence[SubjectRow]) -> Iterator[str]:
    counts = Counter(row.status for row in rows)
    yield ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + "."
    yield ""
    findings = [line for row in rows for line in _findings(row)]
    if findings:
        yield "| optimizer | invariant | what | script |"
        yield "| --- | --- | --- | --- |"
        yield from (*findings, "")
    unusable = [row for row in rows if row.status == "unusable"]
    for row in unusable:
        yield f"- not judged: {_name(row)}: {_plain(row.reason or '')}"
    if unusable:
        yield ""
    held = sorted({_name(row) for row in rows if row.status == "held"}, key=str.lower)
    if held:
        yield f"Held: {', '.join(held)}."


def _findings(row: SubjectRow) -> Iterator[str]:
    """Lines for a crash, or for each violation and doubtful result that is not a mere cost."""
    if row.status == "crashed":
        yield f"| {_name(row)} | crashed | {_plain(row.reason or '')} | |"
        return
    for each in row.invariants:
        if each.status in ("violated", "doubtful") and each.severity != "cost" and each.id in BY_ID:
            script = "shown" if each.reproducer else "none"
            if each.status == "doubtful":
                script = "doubtful"
            yield f"| {_name(row)} | {each.id} | {_plain(each.message or '')} | {script} |"


def _name(row: SubjectRow) -> str:
    return row.target.rpartition(":")[2] + ("" if row.variant == "default" else f" {row.variant}")


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:240]


if __name__ == "__main__":
    print(zoo_page(Path(sys.argv[1]), *sys.argv[2:3]))
