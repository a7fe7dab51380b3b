"""The answer of `frostproof cost` as text, no wider than 120 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby

from frostproof.applications.costs.explaining import LayerCost
from frostproof.applications.costs.recommending import WayEstimate
from frostproof.applications.costs.report import CostReport
from frostproof.applications.costs.ways import A, B
from frostproof.errors import one_line
from frostproof.report.terminal import end_of_name

LINE_WIDTH = 120
"""Columns of a line."""
LEAST_WIDTH = 12
"""Columns into which a text may be folded."""
LONGEST_NAME = 34
"""Columns of a module's name."""
LONGEST_REASON = 16
"""Columns of a parameter's name in the last column. Longer ones are below the table."""
MOST_MODULES = 40
"""Lines of the table of modules."""


def cost_table(report: CostReport) -> str:
    """The frozen parameters, what is still computed and why, the costs of each way, and advice."""
    lines = [*_head(report), *_modules(report.layers), *_ways(report), *_advice(report)]
    return "\n".join(lines) + "\n"


def _head(report: CostReport) -> Iterator[str]:
    frozen = sum(each.frozen for each in report.layers)
    weights = sum(each.weights for each in report.layers)
    numbers = f", {number_text(frozen)} of {number_text(weights)} numbers" if weights else ""
    parameters = f"{len(report.frozen)} of {len(report.frozen) + len(report.trainable)} parameters"
    yield one_line(f"{report.model}: {parameters} are frozen{numbers}")
    yield ""


def _modules(layers: Sequence[LayerCost]) -> Iterator[str]:
    if not layers:
        return
    yield f"What is still computed under {A.name}, in FLOPs of one step:"
    yield ""
    rows: list[tuple[str, ...]] = [
        ("module", "kind", "weights", "", "forward", "for weights", "for inputs", "why")
    ]
    condensed = condense_layers(layers, MOST_MODULES)
    needed = dict.fromkeys(each.needed_by for each in condensed if each.needed_by)
    marks = {name: f"[{i}]" for i, name in enumerate(needed, 1) if len(name) > LONGEST_REASON}
    for each in condensed:
        why = each.why
        if each.needed_by in marks:
            why = why.replace(each.needed_by, marks[each.needed_by])
        frozen = "frozen" if each.frozen == each.weights else "partly" if each.frozen else "trains"
        words = (each.path or "(itself)", each.kind, number_text(each.weights))
        flops = map(number_text, (each.forward_flops, each.weight_flops, each.input_flops))
        rows.append((*words, frozen if each.weights else "", *flops, why))
    yield from align_columns(rows, right=(2, 4, 5, 6))
    yield from (line for name, mark in marks.items() for line in wrap_text(f"{mark} {name}"))
    yield ""


def condense_layers(layers: Sequence[LayerCost], most: int) -> list[LayerCost]:
    """At most `most` rows, if paths allow it.

    Modules whose paths begin alike are put together; the common beginning is as long as the
    limit allows.
    """
    deepest = max(each.path.count(".") for each in layers) + 1
    for depth in range(deepest + 1, 0, -1):
        groups = [list(members) for _, members in groupby(layers, partial(_beginning, depth))]
        if len(groups) <= most:
            break
    return [
        _put_together(members, _beginning(depth, members[0])) if len(members) > 1 else members[0]
        for members in groups
    ]


def _beginning(depth: int, layer: LayerCost) -> str:
    return ".".join(layer.path.split(".")[:depth])


def _put_together(members: Sequence[LayerCost], path: str) -> LayerCost:
    return LayerCost(
        path=path,
        kind=f"{len(members)} modules",
        weights=sum(each.weights for each in members),
        frozen=sum(each.frozen for each in members),
        forward_flops=sum(each.forward_flops for each in members),
        weight_flops=sum(each.weight_flops for each in members),
        input_flops=sum(each.input_flops for each in members),
        needed_by=next((each.needed_by for each in members if each.needed_by), None),
        unreached=any(each.unreached for each in members),
    )


def _ways(report: CostReport) -> Iterator[str]:
    bound = next(
        (each.costs.backward_flops for each in report.ways if each.way == B.name and each.costs), 0
    )
    yield f"What each way to freeze costs, in FLOPs and bytes of one step, with {report.optimizer}:"
    yield ""
    rows: list[tuple[str, ...]] = [
        ("way", "forward", "backward", "of B's", "saved", "gradients", "state")
    ]
    nothing = WayEstimate("(nothing frozen)", "", report.nothing_frozen)
    for each in (nothing, *report.ways):
        if (costs := each.costs) is not None:
            share = share_text(costs.backward_flops, bound) if bound else ""
            flops = map(number_text, (costs.forward_flops, costs.backward_flops))
            saved = costs.saved_bytes + costs.input_bytes
            sizes = map(bytes_text, (saved, costs.gradient_bytes, costs.state_bytes or 0))
            rows.append((each.way, *flops, share, *sizes))
    yield from align_columns(rows, right=(1, 2, 3, 4, 5, 6))
    for each in report.ways:
        if each.costs is None:
            yield one_line(f"{each.way}: {each.reason}", LINE_WIDTH)
    yield ""


def _advice(report: CostReport) -> Iterator[str]:
    chosen = next(each for each in report.ways if each.way == report.recommended)
    yield from wrap_text(
        f"Recommended: {chosen.way} ({chosen.how}). {recommendation_reason(chosen, report.ways)}"
    )
    for each in report.remarks:
        yield from wrap_text(f"Note: {each}.")


def recommendation_reason(chosen: WayEstimate, ways: Iterable[WayEstimate]) -> str:
    """Why this way: what it costs in comparison with B."""
    plain = next((each for each in ways if each.way == B.name), None)
    if plain is None or plain.costs is None or chosen.costs is None:
        return "It is the cheapest way that trains every trainable parameter."
    if chosen.way == B.name:
        return "No other way that trains every trainable parameter costs less."
    here, there = chosen.costs, plain.costs
    shares = {
        "FLOPs in backward": (here.backward_flops, there.backward_flops),
        "saved bytes": (here.saved_bytes + here.input_bytes, there.saved_bytes + there.input_bytes),
        "gradients": (here.gradient_bytes, there.gradient_bytes),
    }
    text = ", ".join(
        f"{share_text(part, whole)} of the {what}"
        for what, (part, whole) in shares.items()
        if whole
    )
    most = "No way that applies costs less, and no equal one is simpler."
    return f"Compared with B, it takes {text}. {most}"


def share_text(part: int, whole: int) -> str:
    """A share in percent. A small one that is not 0 is written as <1%."""
    return "<1%" if 0 < part < whole / 100 else f"{part / whole:.0%}"


def number_text(number: int) -> str:
    """A number with three digits: 645 k, 1.24 M."""
    return _scaled(number, 1000, ("", " k", " M", " G", " T", " P"))


def bytes_text(number: int) -> str:
    """Bytes: 512 B, 20.2 KiB."""
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _scaled(number: int, base: int, units: Sequence[str]) -> str:
    value, place = float(number), 0
    while value >= 999.5 and place < len(units) - 1:
        value, place = value / base, place + 1
    digits = 0 if not place or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{units[place]}"


def align_columns(rows: Sequence[Sequence[str]], right: Sequence[int]) -> Iterator[str]:
    """Columns with two spaces between them. The last is folded where a line would be too long.

    A name that is too long loses its beginning, because its end tells it from others.
    """
    cut = [[end_of_name(row[0], LONGEST_NAME), *row[1:]] for row in rows]
    widths = [max(len(row[place]) for row in cut) for place in range(len(cut[0]))]
    for row in cut:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        text = "  ".join(cells).rstrip()
        line = "".join(c if c.isprintable() else "?" for c in text)  # names may contain anything
        indent = sum(widths[:-1]) + 2 * len(widths[:-1])
        if len(line) <= LINE_WIDTH:
            yield line
        elif LINE_WIDTH - indent < LEAST_WIDTH:
            yield f"{line[: LINE_WIDTH - 1]}…"
        else:
            first, *more = textwrap.wrap(line[indent:], LINE_WIDTH - indent)
            yield line[:indent] + first
            yield from (" " * indent + each for each in more)


def wrap_text(text: str) -> list[str]:
    return textwrap.wrap(
        one_line(text, 1000), LINE_WIDTH, subsequent_indent="  ", break_on_hyphens=False
    )
