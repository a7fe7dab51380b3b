"""The atlas in Markdown: what each way comes with, and which ways are the same, by optimizer and by cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from frostproof.applications.atlas.classes import WayNames, way_classes, way_names, worst_verdicts
from frostproof.applications.atlas.record import Atlas, AtlasCell, Sameness, WayRecord
from frostproof.applications.atlas.traits import TRAITS
from frostproof.report.markdown import code_span

SIGNS: dict[Sameness | None, str] = {
    None: "",
    "equivalent": "=",
    "rounding": "≈",
    "doubtful": "?",
    "different": "≠",
}


def atlas_markdown(atlas: Atlas) -> str:
    """The whole page."""
    return (
        "\n".join(
            [*_head(atlas), *_ways(atlas), *_matrix(atlas), *_optimizers(atlas), *_causes(atlas)]
        )
        + "\n"
    )


def overview(atlas: Atlas) -> str:
    """The same in a few lines for a terminal: the classes of ways for each optimizer, and why ways differ."""
    lines = [f"{target}: {_braced(groups)}" for target, groups in _classes(atlas)]
    lines += ["", "ways differ because"]
    lines += [f"  {len(cells):6,} pairs: {cause}" for cause, cells in cells_by_cause(atlas.cells)]
    doubtful = [cell for cell in atlas.cells if cell.verdict == "doubtful"]
    if doubtful:
        lines += [
            "",
            f"doubtful, as no script shows it: {len(doubtful)}, the first {doubtful[0].left} and {doubtful[0].right}, ",
        ]
        lines[-1] += f"{doubtful[0].target}, {doubtful[0].family}: {doubtful[0].doubt}"
    lines += [
        "",
        f"{len(atlas.cells):,} pairs of ways, {sum(cell.compared for cell in atlas.cells):,} comparisons in {atlas.seconds:.1f} s",
    ]
    return "\n".join(lines)


def _classes(atlas: Atlas) -> Iterator[tuple[str, list[list[str]]]]:
    by_target: dict[str, list[AtlasCell]] = defaultdict(list)
    for cell in atlas.cells:
        by_target[cell.target].append(cell)
    for target, cells in by_target.items():
        found = worst_verdicts(cells)
        yield (
            target,
            way_classes(
                [way.name for way in atlas.ways if any(way.name in pair for pair in found)], found
            ),
        )


def _braced(groups: Iterable[Iterable[str]]) -> str:
    return " ".join(f"{{{', '.join(group)}}}" for group in groups)


def _head(atlas: Atlas) -> Iterator[str]:
    compared = sum(cell.compared for cell in atlas.cells)
    different, doubtful = (
        sum(cell.verdict == verdict for cell in atlas.cells)
        for verdict in ("different", "doubtful")
    )
    targets = {cell.target for cell in atlas.cells}
    yield "# The atlas of freezing"
    yield ""
    yield (
        "Which ways to freeze the same layers train alike, bit for bit? Random networks, masks, hyperparameters and programs, each trained "
        "in every way that can freeze it, from the same seeds, on the same batches. This page is written by"
    )
    yield ""
    yield "    frostproof atlas --markdown docs/atlas.md"
    yield ""
    yield (
        f"with torch {atlas.environment.torch} and seed {atlas.environment.seed}: {len(targets)} optimizers, {len(atlas.cells):,} pairs of "
        f"ways by optimizer and family of networks, {compared:,} comparisons, {atlas.seconds:.0f} s. {different:,} pairs differ, each "
        "shown again by a script that needs torch and the optimizer alone, in a process of its own; "
        f"{doubtful:,} more did here and not by their scripts, and are doubtful. Masks are "
        "constant here: something is frozen, and something trains, from beginning to end."
    )
    for lost in atlas.lost:
        yield f"\n{code_span(lost.target)} is not in it: {lost.reason}."
    yield ""


def _ways(atlas: Atlas) -> Iterator[str]:
    yield "## The ways, and what comes with each"
    yield ""
    yield "Seen on a network of three layers, of which the last trains, in one step of AdamW with weight decay."
    yield ""
    yield f"| way | what one does | {' | '.join(TRAITS.values())} |"
    yield "| --- | --- |" + " --- |" * len(TRAITS)
    for way in atlas.ways:
        words = trait_words(way)
        if "raises" in way.traits:
            words[1] = f"raises: {way.traits['raises']}"
        yield f"| {code_span(way.name)} | {way.does} | {' | '.join(words)} |"
    yield ""


def trait_words(way: WayRecord) -> list[str]:
    """For each of TRAITS whether it was seen: yes, no, or nothing where the way raised before."""
    return [
        "" if name not in way.traits else "yes" if way.traits[name] else "no" for name in TRAITS
    ]


def _matrix(atlas: Atlas) -> Iterator[str]:
    names = [way.name for way in atlas.ways]
    found = worst_verdicts(atlas.cells)
    numbers: dict[WayNames, list[int]] = defaultdict(list)
    for number, (_, cells) in enumerate(cells_by_cause(atlas.cells), 1):
        for pair in {way_names(cell) for cell in cells}:
            numbers[pair].append(number)
    yield "## Every way against every other"
    yield ""
    yield (
        "Over all optimizers and families: `=` the same bits in every case, `≈` rounding at most, `?` doubtful, `≠` different in some, "
        "with the numbers of the causes, which are below."
    )
    yield ""
    yield f"| | {' | '.join(map(code_span, names))} |"
    yield "| --- |" + " --- |" * len(names)
    for row in names:
        told = [frozenset((row, other)) for other in names]
        signs = [
            " ".join([SIGNS[found.get(pair)], *map(str, numbers[pair])]).strip() for pair in told
        ]
        yield f"| {code_span(row)} | {' | '.join(signs)} |"
    yield ""


def _optimizers(atlas: Atlas) -> Iterator[str]:
    yield "## By optimizer"
    yield ""
    yield "Ways in one pair of braces train alike, up to rounding, in every family of networks, wherever both can freeze what is asked."
    yield "What is missing cannot freeze with that optimizer."
    yield ""
    yield "| optimizer | classes of ways |"
    yield "| --- | --- |"
    for target, groups in _classes(atlas):
        yield f"| {code_span(target)} | {_braced(groups)} |"
    yield ""


def _causes(atlas: Atlas) -> Iterator[str]:
    yield "## Why they differ"
    yield ""
    for number, (cause, cells) in enumerate(cells_by_cause(atlas.cells), 1):
        example = smallest_example(cells)
        targets = list(dict.fromkeys(cell.target.partition(":")[2] for cell in cells))
        families = list(dict.fromkeys(cell.family for cell in cells))
        yield f"### {number}. {cause}"
        yield ""
        yield f"{len(cells):,} pairs; optimizers: {', '.join(targets)}; networks: {', '.join(families)}. {code_span(example.message or '')}"
        yield ""
        if example.script:
            yield f"<details><summary>{example.left} and {example.right}, {example.target}, as a script</summary>"
            yield ""
            yield "```python"
            yield example.script.rstrip()
            yield "```"
            yield ""
            yield "</details>"
            yield ""


def smallest_example(cells: Iterable[AtlasCell]) -> AtlasCell:
    """The one of these cells, which all have a case, whose case is the smallest."""
    return min(cells, key=lambda cell: cell.case.size if cell.case else ())


def cells_by_cause(
    cells: Iterable[AtlasCell], verdict: Sameness = "different"
) -> list[tuple[str, list[AtlasCell]]]:
    """Cause -> the cells of this verdict that have it, the most frequent first."""
    found: dict[str, list[AtlasCell]] = defaultdict(list)
    for cell in cells:
        if cell.verdict == verdict and cell.cause is not None:
            found[cell.cause].append(cell)
    return sorted(found.items(), key=lambda item: -len(item[1]))
