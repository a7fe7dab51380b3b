"""The table at the end: one line per optimizer and device, one column per invariant; fits 80 columns."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable

from frostproof.invariants import INVARIANTS
from frostproof.results import InvariantRow, SubjectRow, Totals

SYMBOLS = {"held": ".", "violated": "X", "expected": "x", "unreached": "?", "not-applicable": " "}
COST = "$"
LEGEND = f". held   X violated   x violated, as expected   {COST} costs memory or time   ? never judged, or doubtful"


def table(rows: list[SubjectRow], total: Totals, width: int = 80) -> str:
    """Optimizer x invariant, what is wrong in words, and the totals."""
    return "\n".join([_matrix(rows, width), *_legend(rows), "", *_words(rows), _totals(total)]) + "\n"


def _matrix(rows: list[SubjectRow], width: int) -> str:
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column("optimizer", overflow="fold", max_width=width - 46)
    grid.add_column("device")
    grid.add_column("trials", justify="right")
    for number in range(len(INVARIANTS)):
        grid.add_column(str((number + 1) % 10), justify="center", width=1)
    for row in sorted(rows, key=lambda row: (row.name, row.device)):
        if row.status != "unusable":
            marks = {each.id: _mark(each) for each in row.invariants}
            crashed = ["!"] * len(INVARIANTS) if row.status == "crashed" else None
            grid.add_row(row.name, row.device, f"{row.trials}", *(crashed or [marks.get(i.id, " ") for i in INVARIANTS]))
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, highlight=False, markup=False, emoji=False).print(grid)
    return text.getvalue().rstrip()


def _mark(row: InvariantRow) -> str:
    return COST if row.status == "violated" and row.severity == "cost" else SYMBOLS[row.status]


def _legend(rows: list[SubjectRow]) -> Iterable[str]:
    judged: Counter[str] = Counter()
    for row in rows:
        for each in row.invariants:
            judged[each.id] += each.judged
    yield ""
    for number, invariant in enumerate(INVARIANTS, start=1):
        yield f"{number:3} {invariant.id:28} judged {judged[invariant.id]:>9,} times"
    yield f"    {LEGEND}"


def _words(rows: list[SubjectRow]) -> Iterable[str]:
    for row in rows:
        for each in row.invariants:
            if each.status == "violated":
                yield f"{each.severity.upper()} {row.name} on {row.device}: {each.id}: {each.message}"
                if each.case:
                    yield f"    case: {each.case}"
                if each.reproducer:
                    yield f"    script: {each.reproducer}"
            elif each.status == "unreached" and each.message:
                yield f"doubtful: {row.name} on {row.device}: {each.id}: {each.message}"
        if row.status == "crashed":
            yield f"CRASHED {row.name} on {row.device}: {row.reason}"
    expected = {(row.name, each.id): each.message for row in rows for each in row.invariants if each.status == "expected"}
    for (name, identity), message in expected.items():
        yield f"known: {name}: {identity}: {(message or '').removeprefix('expected: ').partition(';')[0]}"
    unusable: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status == "unusable":
            reason = (row.reason or "").split("\n")[0]
            unusable.setdefault((row.device, reason[:110]), []).append(row.name.rpartition(":")[2])
    for (device, reason), names in unusable.items():
        yield f"not judged on {device}: {', '.join(names)}: {reason}"


def _totals(total: Totals) -> str:
    rate = total.trials / total.seconds if total.seconds else 0.0
    return (
        f"{total.subjects} subjects ({total.violated} violated, {total.unusable} not judged), {total.trials:,} trials, "
        f"{total.judgements:,} judgements, {total.seconds:.1f} s, {rate:.0f} trials/s"
    )
