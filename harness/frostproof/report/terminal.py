"""The table at the end: one line per optimizer and device, one column per invariant; fits 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable

from frostproof.errors import one_line
from frostproof.invariants.registry import INVARIANTS
from frostproof.results.rows import InvariantRow, SubjectRow, Totals

SYMBOLS = {
    "held": ".",
    "violated": "X",
    "expected": "x",
    "doubtful": "D",
    "unreached": "?",
    "not-applicable": " ",
}
COST = "$"
MANY = 40
LEGEND = (
    f". held   X violated   x violated, as expected   {COST} costs memory or time",
    "D doubtful: seen in a trial, not shown by its script   ? never judged",
)


def table(rows: list[SubjectRow], total: Totals, width: int = 80) -> str:
    """Optimizer x invariant, what is wrong in words, and the totals."""
    return (
        "\n".join([_matrix(rows, width), *_legend(rows), "", *_words(rows), _totals(total)]) + "\n"
    )


def _matrix(rows: list[SubjectRow], width: int) -> str:
    """A line for each row. Of many, those that simply held are named below it, to keep it to what there is to see."""
    shown = sorted(
        (row for row in rows if row.status != "unusable"), key=lambda row: (row.name, row.device)
    )
    plain = [row for row in shown if _is_plain(row)] if len(shown) > MANY else []
    shown = [row for row in shown if row not in plain]
    device = max([6, *(len(row.device) for row in shown)])
    trials = max([6, *(len(str(row.trials)) for row in shown)])
    room = width - device - trials - len(_grouped(" " * len(INVARIANTS))) - 3
    name = min(room, max([9, *(len(row.name) for row in shown)]))
    numbers = _grouped("".join(str((number + 1) % 10) for number in range(len(INVARIANTS))))
    lines = (
        [f"{'optimizer':{name}} {'device':{device}} {'trials':>{trials}} {numbers}"]
        if shown
        else []
    )
    for row in shown:
        marks = {each.id: _mark(each) for each in row.invariants}
        text = (
            "!" * len(INVARIANTS)
            if row.status == "crashed"
            else "".join(marks.get(i.id, " ") for i in INVARIANTS)
        )
        lines.append(
            f"{_end(row.name, name):{name}} {row.device:{device}} {row.trials:>{trials}} {_grouped(text)}".rstrip()
        )
    if plain:
        lines += [
            "",
            f"all held, {sum(row.trials for row in plain):,} trials of these {len(plain)}:",
        ]
        for text in _named(plain):
            lines += textwrap.wrap(
                text, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
            )
    return "\n".join(lines)


def _named(rows: Iterable[SubjectRow]) -> Iterable[str]:
    """A text for each module with its optimizers and their implementations: `torch.optim: Adam (forloop, fused), Rprop`."""
    modules: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        module, _, name = row.target.rpartition(":")
        modules.setdefault(module, {}).setdefault(name, {})[row.variant] = None
    for module, names in modules.items():
        texts = (
            f"{name} ({', '.join(variants)})" if [*variants] != ["default"] else name
            for name, variants in names.items()
        )
        yield f"{module}: {', '.join(texts)}" if module else ", ".join(texts)


def _is_plain(row: SubjectRow) -> bool:
    return row.status == "held" and all(
        each.status in ("held", "not-applicable") for each in row.invariants
    )


def _grouped(marks: str) -> str:
    """In fives, so that the eye finds its column."""
    return " ".join(marks[i : i + 5] for i in range(0, len(marks), 5))


def _end(name: str, longest: int) -> str:
    """The end of a name that is too long, where what tells it from others stands."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


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
    yield from (f"    {line}" for line in LEGEND)


def _words(rows: list[SubjectRow]) -> Iterable[str]:
    for row in rows:
        for each in row.invariants:
            if each.status in ("violated", "doubtful"):
                word = "DOUBTFUL" if each.status == "doubtful" else each.severity.upper()
                yield one_line(
                    f"{word} {row.name} on {row.device}: {each.id}: {each.message}", 1000
                )
                yield from _files(each)
        if row.status == "crashed":
            yield f"CRASHED {row.name} on {row.device}: {row.reason}"
            yield from _files(row)
    expected = {
        (row.name, each.id): each.message
        for row in rows
        for each in row.invariants
        if each.status == "expected"
    }
    for (name, identity), message in expected.items():
        yield f"known: {name}: {identity}: {(message or '').removeprefix('expected: ').partition(';')[0]}"
    unusable: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status == "unusable":
            reason = (row.reason or "").split("\n")[0]
            unusable.setdefault((row.device, reason[:110]), []).append(row.name.rpartition(":")[2])
    for (device, reason), names in unusable.items():
        yield f"not judged on {device}: {', '.join(names)}: {reason}"


def _files(row: InvariantRow | SubjectRow) -> Iterable[str]:
    if row.case:
        yield f"    case: {row.case}"
    if row.reproducer:
        yield f"    script: {row.reproducer}"


def explained(rows: Iterable[SubjectRow]) -> Iterable[str]:
    """A line for each invariant of which differences were explained, with the reasons and how often each was one."""
    for row in rows:
        for each in row.invariants:
            if each.explained:
                yield one_line(
                    f"explained: {row.name} on {row.device}: {each.id}: {reasons(each)}", 1000
                )


def reasons(row: InvariantRow) -> str:
    """What explained differences, and how often."""
    return ", ".join(f"{reason} {count}" for reason, count in row.explained.items())


def counted(total: Totals) -> str:
    """How many subjects did not hold: `1 violated, 0 not judged`; with those that are doubtful, where there are any."""
    doubtful = [f"{total.doubtful} doubtful"] if total.doubtful else []
    return ", ".join([f"{total.violated} violated", *doubtful, f"{total.unusable} not judged"])


def _totals(total: Totals) -> str:
    rate = total.trials / total.seconds if total.seconds else 0.0
    return (
        f"{total.subjects} subjects ({counted(total)}), {total.trials:,} trials, "
        f"{total.judgements:,} judgements, {total.seconds:.1f} s, {rate:.0f} trials/s"
    )
