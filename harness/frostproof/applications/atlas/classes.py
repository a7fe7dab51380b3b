"""Verdicts on pairs of ways, put together: the worst for each pair, and classes of equal ways."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from frostproof.applications.atlas.record import AtlasCell, Sameness


class Appearance(NamedTuple):
    """How a verdict looks in a document.

    This is its sign, its letter in the page's data, its CSS class, and its meaning in words.
    """

    sign: str
    letter: str
    style: str
    words: str


APPEARANCES: dict[Sameness | None, Appearance] = {
    None: Appearance("", ".", "none", "no network could be frozen in both ways"),
    "equivalent": Appearance(
        "=", "=", "same", "every weight, loss and buffer had the same bits in every case"
    ),
    "rounding": Appearance("≈", "~", "rounding", "every difference was due to rounding"),
    "doubtful": Appearance(
        "?", "?", "doubtful", "they trained differently in a case, but no script shows it"
    ),
    "different": Appearance("≠", "x", "different", "they train differently in at least one case"),
}
"""In order of rank, the worst last; None if two ways were never compared."""
RANKS = {verdict: rank for rank, verdict in enumerate(APPEARANCES)}

WayNames = frozenset[str]
"""The names of two ways."""


def worst_verdicts(cells: Iterable[AtlasCell]) -> dict[WayNames, Sameness]:
    """The worst verdict of these cells for each pair of ways in them."""
    found: dict[WayNames, Sameness] = {}
    for cell in cells:
        pair = frozenset((cell.left, cell.right))
        found[pair] = max(found.get(pair, cell.verdict), cell.verdict, key=RANKS.__getitem__)
    return found


def way_classes(names: Sequence[str], verdicts: Mapping[WayNames, Sameness]) -> list[list[str]]:
    """Divide the ways into classes whose members differ by rounding at most.

    Each way joins the first class that it fits, in the order of `names`.
    """
    groups: list[list[str]] = []
    for name in names:
        for group in groups:
            pairs = (frozenset((name, other)) for other in group)
            if all(RANKS[verdicts.get(pair)] <= RANKS["rounding"] for pair in pairs):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def classes_by_target(
    names: Sequence[str], cells: Iterable[AtlasCell]
) -> Iterator[tuple[str, str]]:
    """Each optimizer and its classes in braces: `{A, A-late} {B}`. `names` gives the order."""
    by_target: dict[str, list[AtlasCell]] = defaultdict(list)
    for cell in cells:
        by_target[cell.target].append(cell)
    for target, members in by_target.items():
        verdicts = worst_verdicts(members)
        seen = frozenset[str]().union(*verdicts)
        groups = way_classes([name for name in names if name in seen], verdicts)
        yield target, " ".join(f"{{{', '.join(group)}}}" for group in groups)


def cells_by_cause(
    cells: Iterable[AtlasCell], verdict: Sameness = "different"
) -> list[tuple[str, list[AtlasCell]]]:
    """The cells with this verdict, grouped by cause, the most frequent cause first."""
    found: dict[str, list[AtlasCell]] = defaultdict(list)
    for cell in cells:
        if cell.verdict == verdict and cell.cause is not None:
            found[cell.cause].append(cell)
    return sorted(found.items(), key=lambda item: -len(item[1]))


def smallest_example(cells: Iterable[AtlasCell]) -> AtlasCell:
    """The cell with the smallest case. Each of the cells must have a case."""
    return min(cells, key=lambda cell: cell.case.size if cell.case else ())
