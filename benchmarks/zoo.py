"""The page docs/zoo.md from the results of `frostproof check --zoo`. Usage: python benchmarks/zoo.py RESULTS.json [REMARK] > docs/zoo.md"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

from frostproof.invariants.registry import BY_ID
from frostproof.results.files import load_results
from frostproof.results.rows import InvariantRow, SubjectRow


def page(path: Path, remark: str = "") -> str:
    results = load_results(path)
    rows = sorted(
        (row for row in results.subjects if row.target != "torch.autograd"),
        key=lambda row: (row.target.lower(), row.variant),
    )
    environment, libraries = results.environment, defaultdict(list)
    for row in rows:
        libraries[row.target.partition(".")[0].partition(":")[0]].append(row)
    classes = {row.target for row in rows}
    judged = {row.target for row in rows if row.status != "unusable"}
    lines = [
        "# The zoo",
        "",
        f"Made from `frostproof check --zoo --seed {environment.seed}` (profile {environment.profile}, torch {environment.torch}, "
        f"frostproof {environment.frostproof}): {len(judged)} of {len(classes)} optimizer classes judged, {len(rows)} implementations, "
        f"{results.totals.judgements:,} judgements. Every violation here was shown by its script in a fresh "
        "process, with torch and the library alone; [subjects.md](subjects.md) says how kinds of findings are told apart.",
        "",
        *([remark, ""] if remark else []),
    ]
    for library, members in sorted(libraries.items()):
        lines += [f"## {library} {members[0].version}", "", *_library(members), ""]
    return "\n".join(lines)


def _library(rows: list[SubjectRow]) -> list[str]:
    counts = Counter(row.status for row in rows)
    held = sorted({_name(row) for row in rows if row.status == "held"}, key=str.lower)
    lines = [", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + ".", ""]
    violated = [row for row in rows if row.status in ("violated", "crashed")]
    if violated:
        lines += ["| optimizer | invariant | what | script |", "| --- | --- | --- | --- |"]
        lines += [line for row in violated for line in _violations(row)]
        lines.append("")
    unusable = [row for row in rows if row.status == "unusable"]
    if unusable:
        lines += [
            *(f"- not judged: {_name(row)}: {_plain(row.reason or '')}" for row in unusable),
            "",
        ]
    if held:
        lines += [f"Held: {', '.join(held)}."]
    return lines


def _violations(row: SubjectRow) -> list[str]:
    if row.status == "crashed":
        return [f"| {_name(row)} | crashed | {_plain(row.reason or '')} | |"]
    found = [
        each for each in row.invariants if each.status == "violated" and each.severity != "cost"
    ]
    return [
        f"| {_name(row)} | {each.id} | {_plain(each.message or '')} | {_script(each)} |"
        for each in found
        if each.id in BY_ID
    ]


def _name(row: SubjectRow) -> str:
    return row.target.rpartition(":")[2] + ("" if row.variant == "default" else f" {row.variant}")


def _script(row: InvariantRow) -> str:
    return "shown" if row.reproducer else "none"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:240]


if __name__ == "__main__":
    print(page(Path(sys.argv[1]), *sys.argv[2:3]))
