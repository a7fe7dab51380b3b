"""The atlas as one self-contained page: a matrix to look at, and for each pair of ways its causes with their scripts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from markupsafe import Markup

from frostproof.applications.atlas.classes import worst_verdicts
from frostproof.applications.atlas.record import Atlas, AtlasCell, Sameness
from frostproof.applications.atlas.summary import (
    SIGNS,
    cells_by_cause,
    smallest_example,
    trait_words,
)
from frostproof.applications.atlas.traits import TRAITS
from frostproof.report.html.page import render_template
from frostproof.results.rows import Environment

LETTERS: dict[Sameness | None, str] = {
    None: ".",
    "equivalent": "=",
    "rounding": "~",
    "doubtful": "?",
    "different": "x",
}
KINDS: dict[Sameness | None, str] = {
    None: "none",
    "equivalent": "same",
    "rounding": "rounding",
    "doubtful": "doubtful",
    "different": "different",
}
WORDS: dict[Sameness | None, str] = {
    None: "no network could be frozen in both ways",
    "equivalent": "every weight, loss and buffer had the same bits in every case",
    "rounding": "no difference was more than rounding",
    "doubtful": "they trained otherwise in some case, and no script shows it",
    "different": "they train otherwise in some case",
}


class MatrixCell(NamedTuple):
    """A cell of the matrix over all optimizers and families."""

    kind: str
    sign: str
    anchor: str
    title: str


class CauseDetails(NamedTuple):
    """Why two ways differ: in which cases, and the smallest of them."""

    text: str
    where: str
    message: str
    script: str | None
    doubt: str | None


class PairDetails(NamedTuple):
    """Two ways, by optimizer and family; each of `rows` has a kind, a sign and a title for each family."""

    anchor: str
    left: str
    right: str
    verdict: str
    kind: str
    sign: str
    rows: list[tuple[str, list[tuple[str, str, str]]]]
    causes: list[CauseDetails]


class WayRow(NamedTuple):
    name: str
    does: str
    told: list[str]
    raises: str


class AtlasPageContext(NamedTuple):
    """What the template shows. `data`: verdicts of every optimizer and family as JSON, in the order of pairs; `chart`: SVG."""

    environment: Environment
    headline: str
    numbers: str
    targets: list[str]
    families: list[str]
    ways: list[WayRow]
    traits: list[str]
    cells: list[list[MatrixCell]]
    pairs: list[PairDetails]
    data: Markup
    depth: int
    chart: Markup
    lost: list[str]


def atlas_page(atlas: Atlas, depth: int = 8) -> str:
    """The page; `depth`: layers of the network in the chart of costs."""
    from frostproof.applications.costs.chart import savings_chart

    names = [way.name for way in atlas.ways]
    found = worst_verdicts(atlas.cells)
    same = sum(verdict == "equivalent" for verdict in found.values())
    targets, families = (
        list(dict.fromkeys(getattr(cell, field) for cell in atlas.cells))
        for field in ("target", "family")
    )
    compared = sum(cell.compared for cell in atlas.cells)
    view = AtlasPageContext(
        atlas.environment,
        f"{same} of {len(found)} pairs of ways to freeze train alike, bit for bit",
        f"{len(targets)} optimizers · {len(families)} families of networks · {compared:,} comparisons · {atlas.seconds:,.0f} s",
        targets,
        families,
        [
            WayRow(way.name, way.does, trait_words(way), str(way.traits.get("raises", "")))
            for way in atlas.ways
        ],
        list(TRAITS.values()),
        [[_square(row, column, found, names) for column in names] for row in names],
        [
            _pair(left, right, atlas.cells, targets, families)
            for left, right in combinations(names, 2)
        ],
        _data(names, atlas.cells, targets, families),
        depth,
        Markup(savings_chart(depth)),
        [f"{lost.target}: {lost.reason}" for lost in atlas.lost],
    )
    return render_template("atlas.html", "atlas.js", view=view)


def _square(
    row: str, column: str, found: dict[frozenset[str], Sameness], names: Sequence[str]
) -> MatrixCell:
    if row == column:
        return MatrixCell("none", "", "", "")
    verdict = found.get(frozenset((row, column)))
    left, right = sorted((row, column), key=names.index)
    return MatrixCell(
        KINDS[verdict],
        SIGNS[verdict],
        _anchor(left, right),
        f"{row} and {column}: {KINDS[verdict]}",
    )


def _anchor(left: str, right: str) -> str:
    return f"{left}--{right}"


def _pair(
    left: str,
    right: str,
    cells: Sequence[AtlasCell],
    targets: Sequence[str],
    families: Sequence[str],
) -> PairDetails:
    mine = {
        (cell.target, cell.family): cell
        for cell in cells
        if (cell.left, cell.right) == (left, right)
    }
    verdict = worst_verdicts(mine.values()).get(frozenset((left, right)))
    rows = [
        (target.partition(":")[2], [_told(mine.get((target, family))) for family in families])
        for target in targets
    ]
    return PairDetails(
        _anchor(left, right),
        left,
        right,
        WORDS[verdict],
        KINDS[verdict],
        SIGNS[verdict],
        rows,
        list(_causes(mine.values())),
    )


def _told(cell: AtlasCell | None) -> tuple[str, str, str]:
    if cell is None:
        return "none", "", "never compared"
    title = (
        f"{cell.different} of {cell.compared} cases differ"
        if cell.different
        else f"{cell.compared} cases"
    )
    return (
        KINDS[cell.verdict],
        SIGNS[cell.verdict],
        f"{title}, {cell.ulp:g} ulp" if cell.ulp else title,
    )


def _causes(cells: Collection[AtlasCell]) -> Iterator[CauseDetails]:
    for text, having in (*cells_by_cause(cells), *cells_by_cause(cells, "doubtful")):
        example = smallest_example(having)
        where = ", ".join(dict.fromkeys(cell.target.partition(":")[2] for cell in having))
        yield CauseDetails(
            text,
            f"{where}; here {example.target}, {example.family}",
            example.message or "",
            example.script,
            example.doubt,
        )


def _data(
    names: Sequence[str],
    cells: Sequence[AtlasCell],
    targets: Sequence[str],
    families: Sequence[str],
) -> Markup:
    verdicts = {(cell.target, cell.family, cell.left, cell.right): cell.verdict for cell in cells}
    regions = [
        {
            "target": t,
            "family": f,
            "verdicts": "".join(
                LETTERS[verdicts.get((t, f, *pair))] for pair in combinations(names, 2)
            ),
        }
        for t in targets
        for f in families
    ]
    # In a script element, only `<` could end it.
    return Markup(json.dumps({"names": names, "regions": regions}).replace("<", "\\u003c"))
