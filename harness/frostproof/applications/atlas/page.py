"""The atlas as a self-contained page: a matrix, and for each pair of ways causes and scripts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from markupsafe import Markup

from frostproof.applications.atlas.classes import (
    APPEARANCES,
    WayNames,
    cells_by_cause,
    smallest_example,
    worst_verdicts,
)
from frostproof.applications.atlas.record import Atlas, AtlasCell, Sameness
from frostproof.applications.atlas.summary import trait_words
from frostproof.applications.atlas.traits import TRAITS
from frostproof.applications.costs.chart import savings_chart
from frostproof.report.html.page import render_template


class MatrixCell(NamedTuple):
    """Two ways over all optimizers and families. `kind` is a CSS class."""

    kind: str
    sign: str
    anchor: str
    title: str


class PairDetails(NamedTuple):
    """Two ways, by optimizer and family."""

    anchor: str
    left: str
    right: str
    verdict: str
    kind: str
    sign: str
    rows: list[tuple[str, list[tuple[str, str, str]]]]
    """For each optimizer a CSS class, a sign and a title for each family."""
    causes: list[tuple[str, str, AtlasCell]]
    """For each cause its text, the optimizers, and the cell with the smallest case."""


CHART_LAYERS = 8
"""Layers of the network in the chart of costs."""


def atlas_page(atlas: Atlas) -> str:
    """The whole page, as HTML."""
    names = [way.name for way in atlas.ways]
    verdicts = worst_verdicts(atlas.cells)
    same = sum(verdict == "equivalent" for verdict in verdicts.values())
    targets = list(dict.fromkeys(cell.target for cell in atlas.cells))
    families = list(dict.fromkeys(cell.family for cell in atlas.cells))
    compared = sum(cell.compared for cell in atlas.cells)
    numbers = (f"{len(targets)} optimizers", f"{len(families)} families of networks")
    return render_template(
        "atlas.html",
        "atlas.js",
        atlas=atlas,
        headline=f"{same} of {len(verdicts)} pairs of ways to freeze train to the same bits",
        numbers=" · ".join((*numbers, f"{compared:,} comparisons", f"{atlas.seconds:,.0f} s")),
        targets=targets,
        families=families,
        traits=TRAITS,
        trait_words=trait_words,
        cells=[[_matrix_cell(row, column, verdicts, names) for column in names] for row in names],
        pairs=[_pair(*pair, atlas.cells, targets, families) for pair in combinations(names, 2)],
        # In a script element, only `<` could end it.
        data=Markup(_data(names, atlas.cells, targets, families).replace("<", "\\u003c")),
        depth=CHART_LAYERS,
        chart=Markup(savings_chart(CHART_LAYERS)),
    )


def _matrix_cell(
    row: str, column: str, verdicts: dict[WayNames, Sameness], names: Sequence[str]
) -> MatrixCell:
    if row == column:
        return MatrixCell("none", "", "", "")
    look = APPEARANCES[verdicts.get(frozenset((row, column)))]
    anchor = _anchor(*sorted((row, column), key=names.index))
    return MatrixCell(look.style, look.sign, anchor, f"{row} and {column}: {look.style}")


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
    look = APPEARANCES[worst_verdicts(mine.values()).get(frozenset((left, right)))]
    rows = [
        (target.partition(":")[2], [_small_cell(mine.get((target, each))) for each in families])
        for target in targets
    ]
    causes = list(_causes(mine.values()))
    anchor = _anchor(left, right)
    return PairDetails(anchor, left, right, look.words, look.style, look.sign, rows, causes)


def _small_cell(cell: AtlasCell | None) -> tuple[str, str, str]:
    """The CSS class, the sign and the title."""
    if cell is None:
        return "none", "", "never compared"
    look = APPEARANCES[cell.verdict]
    differ = f"{cell.different} of {cell.compared} cases differ"
    title = differ if cell.different else f"{cell.compared} cases"
    return look.style, look.sign, f"{title}, {cell.ulp:g} ulp" if cell.ulp else title


def _causes(cells: Collection[AtlasCell]) -> Iterator[tuple[str, str, AtlasCell]]:
    for text, members in (*cells_by_cause(cells), *cells_by_cause(cells, "doubtful")):
        where = ", ".join(dict.fromkeys(cell.target.partition(":")[2] for cell in members))
        yield text, where, smallest_example(members)


def _data(
    names: Sequence[str],
    cells: Sequence[AtlasCell],
    targets: Sequence[str],
    families: Sequence[str],
) -> str:
    """The verdicts of every optimizer and family as JSON, in the order of pairs."""
    verdicts = {(cell.target, cell.family, cell.left, cell.right): cell.verdict for cell in cells}
    regions = []
    for target in targets:
        for family in families:
            found = (verdicts.get((target, family, *pair)) for pair in combinations(names, 2))
            letters = "".join(APPEARANCES[verdict].letter for verdict in found)
            regions.append({"target": target, "family": family, "verdicts": letters})
    return json.dumps({"names": names, "regions": regions})
