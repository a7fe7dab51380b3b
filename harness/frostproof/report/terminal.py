"""The table at the end of a run, in 80 columns.

It has one line for each optimizer and device, and one column for each invariant.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from frostproof.errors import one_line
from frostproof.invariants.registry import INVARIANTS
from frostproof.report.attachments import read_attachments
from frostproof.report.failure_text import counterexample_lines
from frostproof.results.rows import InvariantRow, SubjectRow, Totals, add_seconds
from frostproof.spec.ids import directness
from frostproof.spec.patterns import counted

STATUS_SYMBOLS = {
    "held": ".",
    "violated": "X",
    "expected": "x",
    "doubtful": "D",
    "unreached": "?",
    "not-applicable": " ",
}
WITHOUT_FREEZING = ("same-without-freezing", "raises-without-freezing")
"""Explanations that tell of a fault that has nothing to do with freezing."""
COST, STALE = "$", "S"
CELL = 9
"""The least width of a column with a mark and a number of judgements."""
FEW = 30
"""Trials with which nine of ten planted bugs are found; fewer are pointed out."""
MOST_ROWS = 40
"""If there are more rows, those that simply held get no line of their own."""
NAME_OF_STALE = f"{STALE} stale: expected to fail, but held"
LEGEND = (
    f". held   X violated   x violated, as expected   {COST} costs memory or time",
    "D doubtful: seen in a trial, not shown by its script   ? never judged",
)


def results_table(rows: list[SubjectRow], total: Totals, width: int = 80) -> str:
    """The matrix of optimizers and invariants, the faults in words, and the totals."""
    if all(row.status == "unusable" for row in rows):  # no verdict to show
        return "\n".join([*_words(rows), _totals(total)]) + "\n"
    columns = _columns(rows)
    table = _by_name(rows, width) or [*_matrix(rows, columns, width), *_numbers(rows, columns)]
    stale = any(each.is_stale for row in rows for each in row.invariants)
    symbols = [f"    {line}" for line in (*LEGEND, *([NAME_OF_STALE] if stale else []))]
    words = [*_words(rows), *_phases(rows), _totals(total)]
    return "\n".join([*table, *symbols, "", *words]) + "\n"


def _by_name(rows: list[SubjectRow], width: int) -> list[str]:
    """A line for each invariant, with its name; empty if there are too many optimizers for that."""
    shown = sorted(_judged(rows), key=lambda row: (row.name, row.device))
    several = len({row.device for row in shown}) > 1
    names = [f"{row.name} on {row.device}" if several else row.name for row in shown]
    modules = {row.target.rpartition(":")[0] for row in shown}
    module = f"{modules.pop()}:" if len(shown) > 1 and len(modules) == 1 else ""
    names = [name.removeprefix(module) for name in names]
    fits = _applying(shown)
    first = max(map(len, [module, *fits]))
    widths = [max(len(name), CELL) for name in names]
    if not fits or first + sum(each + 2 for each in widths) > width:
        return []

    def line(*cells: str) -> str:
        pairs = zip(cells, (first, *widths), strict=True)
        return "  ".join(f"{cell:{each}}" for cell, each in pairs).rstrip()

    lines = [line(module, *names)]
    for identity in fits:
        found = ({each.id: each for each in row.invariants}.get(identity) for row in shown)
        lines.append(line(identity, *("" if each is None else _cell(each) for each in found)))
    trials = (f"  {counted(row.trials, 'trial')}" for row in shown)
    return [*lines, line("", *trials), ""]


def _cell(row: InvariantRow) -> str:
    return f"{_mark(row)} {row.judged:,}" if row.judged else _mark(row).strip()


def _judged(rows: list[SubjectRow]) -> list[SubjectRow]:
    return [row for row in rows if row.status not in ("unusable", "crashed")]


def _applying(rows: Iterable[SubjectRow]) -> list[str]:
    """The ids of the invariants that apply to any of these subjects."""
    applies = {
        each.id for row in rows for each in row.invariants if each.status != "not-applicable"
    }
    return [invariant.id for invariant in INVARIANTS if invariant.id in applies]


def _matrix(rows: list[SubjectRow], columns: list[str], width: int) -> Iterable[str]:
    shown = [row for row in rows if row.status != "unusable"]
    shown.sort(key=lambda row: (row.name, row.device))
    plain = [row for row in shown if _is_plain(row)] if len(shown) > MOST_ROWS else []
    shown = [row for row in shown if row not in plain]
    if shown:
        yield from _lines(shown, columns, width)
    if plain:
        trials = sum(row.trials for row in plain)
        yield from ("", f"all held, {trials:,} trials of these {len(plain)}:")
        for text in _names_by_module(plain):
            yield textwrap.fill(
                text, width, initial_indent="  ", subsequent_indent=" " * 6, break_on_hyphens=False
            )


def _lines(rows: list[SubjectRow], columns: list[str], width: int) -> Iterable[str]:
    device = max([6, *(len(row.device) for row in rows)])
    trials = max([6, *(len(str(row.trials)) for row in rows)])
    room = width - device - trials - len(_in_fives(" " * len(columns))) - 3
    name = min(room, max([9, *(len(row.name) for row in rows)]))
    numbers = _in_fives("".join(str((number + 1) % 10) for number in range(len(columns))))
    yield f"{'optimizer':{name}} {'device':{device}} {'trials':>{trials}} {numbers}"
    for row in rows:
        marks = {each.id: _mark(each) for each in row.invariants}
        text = "".join(marks.get(identity, " ") for identity in columns)
        if row.status == "crashed":
            text = "!" * len(columns)
        numbers = f"{row.device:{device}} {row.trials:>{trials}}"
        yield f"{end_of_name(row.name, name):{name}} {numbers} {_in_fives(text)}".rstrip()


def _columns(rows: list[SubjectRow]) -> list[str]:
    """The ids of the invariants that apply to any optimizer; of all if there is no verdict."""
    return _applying(rows) or [each.id for each in INVARIANTS if each.applies_in is None]


def _names_by_module(rows: Iterable[SubjectRow]) -> Iterable[str]:
    """The optimizers of each module with their variants: `torch.optim: Adam (foreach), Rprop`."""
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


def _in_fives(marks: str) -> str:
    """With a space after every fifth mark, so that a column is easy to find."""
    return " ".join(marks[i : i + 5] for i in range(0, len(marks), 5))


def end_of_name(name: str, longest: int) -> str:
    """A name that is too long loses its beginning, because its end tells it from others."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _mark(row: InvariantRow) -> str:
    if row.is_stale:
        return STALE
    is_cost = row.status == "violated" and row.severity == "cost"
    return COST if is_cost else STATUS_SYMBOLS[row.status]


def _numbers(rows: list[SubjectRow], columns: list[str]) -> Iterable[str]:
    """The names of the columns, with the number of judgements."""
    judged: Counter[str] = Counter()
    for row in rows:
        for each in row.invariants:
            judged[each.id] += each.judged
    yield ""
    for number, identity in enumerate(columns, start=1):
        yield f"{number:3} {identity:28} judged {judged[identity]:>9,} times"


def _words(rows: list[SubjectRow]) -> Iterable[str]:
    for row in rows:
        yield from _faults(row)
        if row.status == "crashed":
            yield f"CRASHED {row.name} on {row.device}: {row.reason}"
            yield from file_lines(row)
    expected = {
        (row.name, each.id): each.expected_reason or each.message
        for row in rows
        for each in row.invariants
        if each.status == "expected"
    }
    yield from (f"known: {name}: {id}: {message}" for (name, id), message in expected.items())
    for row in rows:
        for each in row.invariants:
            if each.status in ("held", "unreached") and each.message:
                yield one_line(f"not found: {row.name} on {row.device}: {each.id}: {each.message}")
    yield from remarks(rows)
    # A Subject does not help where the same optimizer is judged in another setting.
    judged = {row.target for row in _judged(rows)}
    targets = [row.target for row in rows if row.status == "unusable" and row.target not in judged]
    if targets:
        yield f"    what was tried, and a Subject to fill in: frostproof explain {targets[0]}"


def _faults(row: SubjectRow) -> Iterable[str]:
    """What is violated or doubtful, the most direct first, and the counterexample of the first."""
    broken = (each for each in row.invariants if each.status in ("violated", "doubtful"))
    told: set[str] = set()
    for number, each in enumerate(sorted(broken, key=lambda each: directness(each.id))):
        word = "DOUBTFUL" if each.status == "doubtful" else each.severity.upper()
        word = "STALE" if each.is_stale else word
        other = each.violation_class not in (None, "freezing")
        about = f" ({each.violation_class})" if other else ""
        message = each.message or ""
        if each.source is not None and each.source in told:
            line = each.source.partition(" in ")[0]
            message = message.replace(f"; by {each.source}", f"; by {line}, as above")
        told |= {each.source} if each.source else set()
        yield one_line(f"{word} {row.name} on {row.device}: {each.id}{about}: {message}", 1000)
        yield from file_lines(each)
        if number == 0:
            yield from drawn_lines(row, each)


def drawn_lines(row: SubjectRow, broken: InvariantRow) -> Iterable[str]:
    """The counterexample of a row that this run has written, if its case file can be read."""
    folders = [Path(), Path(broken.case or "").parent]
    shown = read_attachments(row, broken, folders).case
    return (*counterexample_lines(shown), "") if shown is not None else ()


def remarks(rows: list[SubjectRow]) -> Iterable[str]:
    """What was not compared, drawn, tried or judged, and why: one line for all that are alike."""
    yield from _alike("few trials", rows, _few)
    yield from _alike("not compared", rows, _not_compared)
    yield from _alike("not counted", rows, _not_about_freezing)
    yield from _alike("does not apply", rows, _why_not_as_alone)
    yield from _alike("never judged", rows, _never_judged)
    yield from _alike("not drawn", rows, _never_drawn)
    yield from _alike("not tried", rows, lambda row: row.facts.get("not-tried", ()))
    yield from _alike("cut short", rows, lambda row: filter(None, [row.facts.get("cut-short")]))
    yield from _alike("not judged", rows, _why_unusable)


def _few(row: SubjectRow) -> Iterable[str]:
    if row.status == "held" and row.trials < FEW:
        yield f"{row.trials}, which tell little; try more with --max-examples"


def _not_compared(row: SubjectRow) -> Iterable[str]:
    parted = row.facts.get("partings", {}).get("known-violation")
    if parted and any(
        each.violated and each.status == "violated" and each.severity != "cost"
        for each in row.invariants
    ):
        yield (
            f"A and B after one of these violations, in {counted(parted, 'trial')}: check again "
            "once it is mended"
        )
    positional = row.facts.get("partings", {}).get("positional-by-design")
    if positional:
        yield (
            f"A and B where they own other parameters, in {counted(positional, 'trial')}: its "
            "Subject states that updates depend on their order or number, as `positional`"
        )
    late = row.facts.get("partings", {}).get("late-group-counts-differently")
    if late:
        yield (
            f"A and B after a group came late, in {counted(late, 'trial')}: it counts steps for "
            "each group, or for all. What thaws then goes on with an old count in A, and begins "
            "with a new one in B, so that a correction of fresh averages by the count is wrong in "
            "A. Count for each parameter, as torch.optim does"
        )


def _not_about_freezing(row: SubjectRow) -> Iterable[str]:
    """What is broken with nothing frozen as well, which is not held against the optimizer."""
    for each in row.invariants:
        trials = sum(each.explained.get(reason, 0) for reason in WITHOUT_FREEZING)
        if trials:
            yield f"{each.id} fails with nothing frozen, too ({trials} times)"
    for raised in row.facts.get("raises", ()):
        yield f"with nothing frozen, too, it raises {raised}"
    explained = sum(each.explained.get("raises-without-optimizer", 0) for each in row.invariants)
    cases = counted(explained, "case")
    for raised in row.facts.get("raises-without-optimizer", ()):
        yield f"{cases} in which the model itself, without an optimizer, raises {raised}"


def _why_not_as_alone(row: SubjectRow) -> Iterable[str]:
    reason = row.facts.get("not-as-alone")
    if not reason:
        return []
    found = "one parameter changes" in reason  # and nobody has stated it
    how = "; if that is by design, state it as `coupled` in a Subject" if found else ""
    return [f"trains-as-alone: {reason}{how}"]


def _never_judged(row: SubjectRow) -> Iterable[str]:
    names = [each.id for each in row.invariants if each.status == "unreached" and not each.message]
    return [", ".join(names)] if names and row.trials else []


def _never_drawn(row: SubjectRow) -> Iterable[str]:
    names = ", ".join(sorted(row.facts.get("not-drawn", ())))
    return [f"{names}: always the default; name other values in a Subject's space"] if names else []


def _why_unusable(row: SubjectRow) -> Iterable[str]:
    return [(row.reason or "").split("\n")[0]] if row.status == "unusable" else []


def _alike(
    what: str, rows: Iterable[SubjectRow], reasons: Callable[[SubjectRow], Iterable[str]]
) -> Iterable[str]:
    """One line for all optimizers of a device of which the same is to be said."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for reason in reasons(row):
            key = row.device, one_line(reason, 320)
            said.setdefault(key, []).append(row.name.rpartition(":")[2])
    for (device, reason), names in said.items():
        yield f"{what} on {device}: {', '.join(names)}: {reason}"


def file_lines(row: InvariantRow | SubjectRow) -> Iterable[str]:
    """The lines that name the case file and the script of a violation or a crash."""
    if row.case:
        yield f"    case: {row.case}"
    if row.reproducer:
        yield f"    script: {row.reproducer}"


def explained_lines(rows: Iterable[SubjectRow]) -> Iterable[str]:
    """One line for each invariant with explained differences."""
    for row in rows:
        for each in row.invariants:
            if each.explained:
                text = f"{row.name} on {row.device}: {each.id}: {explained_reasons(each)}"
                yield one_line(f"explained: {text}", 1000)


def explained_reasons(row: InvariantRow) -> str:
    """The explanations of differences, and how often each occurred."""
    return ", ".join(f"{reason} {count}" for reason, count in row.explained.items())


def status_counts(total: Totals) -> str:
    """How many subjects did not hold.

    The text is `1 violated, 0 not judged`, and names doubtful ones if there are any.
    """
    doubtful = [f"{total.doubtful} doubtful"] if total.doubtful else []
    return ", ".join([f"{total.violated} violated", *doubtful, f"{total.unusable} not judged"])


def subject_count(total: Totals) -> str:
    return counted(total.subjects, "subject")


def _phases(rows: Iterable[SubjectRow]) -> Iterable[str]:
    """One line with the seconds of each phase."""
    found = add_seconds(row.phases for row in rows).items()
    if texts := [f"{phase} {seconds:.1f}" for phase, seconds in found if seconds >= 0.05]:
        yield f"seconds: {', '.join(texts)}"


def _totals(total: Totals) -> str:
    rate = total.trials / total.seconds if total.seconds else 0.0
    return (
        f"{subject_count(total)} ({status_counts(total)}), {counted(total.trials, 'trial')}, "
        f"{total.judgements:,} judgements, {total.seconds:.1f} s, {rate:.0f} trials/s"
    )
