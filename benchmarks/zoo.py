"""Writes docs/zoo.md from the results of `frostproof check --zoo`.

Usage: python benchmarks/zoo.py RESULTS.json [REMARK] > docs/zoo.md

       python benchmarks/zoo.py --settings RESULTS.json...

The second prints the table of docs/settings.md, with one row for each library, from results of runs
in settings. A later file takes the place of an earlier one for the implementations that it has.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from frostproof.invariants.registry import BY_ID
from frostproof.results.files import load_results
from frostproof.results.rows import InvariantRow, Results, SubjectRow

Finding = tuple[tuple[str, str], ...]
"""The id and the status of each invariant that an implementation breaks."""


def zoo_page(path: Path, remark: str = "") -> str:
    results = load_results(path)
    rows = [row for row in results.subjects if row.target != "torch.autograd"]
    rows.sort(key=lambda row: (row.target.lower(), row.variant))
    libraries = defaultdict(list)
    for row in rows:
        libraries[row.target.partition(".")[0].partition(":")[0]].append(row)
    lines = ["# The zoo", "", _head(results, rows), ""]
    lines += [remark, ""] if remark else []
    for library, members in sorted(libraries.items(), key=lambda pair: pair[0].lower()):
        lines += [f"## {library} {members[0].version}", "", *_library(members), ""]
    return "\n".join(lines)


def settings_table(paths: Sequence[Path]) -> str:
    """How many implementations of each library held, were violated and were not judged."""
    latest = {
        (row.target, row.variant): row
        for path in paths
        for row in load_results(path).subjects
        if row.target != "torch.autograd"
    }
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for (target, variant), row in latest.items():
        library = target.partition(".")[0].partition(":")[0]
        setting = variant.rpartition("+")[2]
        for name in (library, "all"):
            counts[name][setting][row.status] += 1
    settings = sorted(counts["all"])
    libraries = sorted(counts, key=lambda name: (name == "all", name.lower()))
    cells = [["library", *settings], ["---"] * (1 + len(settings))]
    cells += [[each, *(_numbers(counts[each][s]) for s in settings)] for each in libraries]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _numbers(found: Counter[str]) -> str:
    """Held, violated and not judged; anything else, such as doubtful, by its name."""
    words = {"unusable": "not judged"}
    order = ("held", "violated", "unusable", *sorted({*found} - {"held", "violated", "unusable"}))
    return ", ".join(f"{found[each]} {words.get(each, each)}" for each in order if found[each])


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
        "library alone. A violation marked *doubtful* was seen in a trial, but its script did not "
        "show it. Each row has the invariants that an optimizer breaks, what kind of bug that is, "
        "and for the first of them the message and the line of the source that moved the weight or "
        "raised. [subjects.md](subjects.md#the-zoo) says how to install the libraries, and how "
        "kinds of findings are told apart."
    )


def _library(rows: Sequence[SubjectRow]) -> Iterator[str]:
    counts = Counter(row.status for row in rows)
    yield ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + "."
    yield ""
    found = [line for name, row in _merged(rows) for line in _finding(name, row)]
    if found:
        yield "| optimizer | violated | class | message | by |"
        yield "| --- | --- | --- | --- | --- |"
        yield from (*found, "")
    unusable = defaultdict(list)
    for name, row in _merged(rows):
        if row.status == "unusable":
            unusable[_plain(row.reason or "")].append(name)
    yield from (f"- not judged: {', '.join(names)}: {why}" for why, names in unusable.items())
    if unusable:
        yield ""
    held = [name for name, row in _merged(rows) if row.status == "held"]
    if held:
        yield f"Held: {', '.join(held)}."


def _merged(rows: Sequence[SubjectRow]) -> Iterator[tuple[str, SubjectRow]]:
    """Each optimizer once for each verdict: its name with the implementations, and one row."""
    alike: dict[tuple[str, str, Finding, str | None], list[SubjectRow]] = defaultdict(list)
    for row in rows:
        finding = tuple((each.id, each.status) for each in _wrong(row))
        alike[row.target, row.status, finding, row.reason].append(row)
    for (target, *_), members in alike.items():
        variants = [row.variant for row in members if row.variant != "default"]
        name = target.rpartition(":")[2]
        yield f"{name} ({', '.join(variants)})" if variants else name, members[0]


def _wrong(row: SubjectRow) -> list[InvariantRow]:
    """The rows of what is violated or doubtful and not a mere cost."""
    return [
        each
        for each in row.invariants
        if each.status in ("violated", "doubtful") and each.severity != "cost" and each.id in BY_ID
    ]


def _finding(name: str, row: SubjectRow) -> Iterator[str]:
    """A line for a crash, or for all that is violated or doubtful."""
    if row.status == "crashed":
        yield f"| {name} | ends its process | | {_plain(row.reason or '')} | |"
    elif wrong := _wrong(row):
        ids = [f"{each.id}{' *doubtful*' * (each.status == 'doubtful')}" for each in wrong]
        classes = dict.fromkeys(each.violation_class or "" for each in wrong)
        first = wrong[0]
        by = first.source or ""
        message = (first.message or "").partition(f"; by {by}")[0] if by else first.message
        where = f"`{by.replace('|', chr(92) + '|')}`" if by else ""
        cells = (name, ", ".join(ids), ", ".join(classes), _plain(message or ""), where)
        yield f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:240]


if __name__ == "__main__":
    if sys.argv[1] == "--settings":
        print(settings_table([*map(Path, sys.argv[2:])]))
    else:
        print(zoo_page(Path(sys.argv[1]), *sys.argv[2:3]))
