"""Pairs of ways put together: the worst verdict on each, and which ways are one class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from frostproof.applications.atlas.record import AtlasCell, Sameness

SAMENESS_RANKS: dict[Sameness, int] = {
    "equivalent": 0,
    "rounding": 1,
    "doubtful": 2,
    "different": 3,
}

WayNames = frozenset[str]
"""The names of two ways."""


def way_names(cell: AtlasCell) -> WayNames:
    return frozenset((cell.left, cell.right))


def worst_verdicts(cells: Iterable[AtlasCell]) -> dict[WayNames, Sameness]:
    """For each pair of ways that were compared the worst verdict of these cells."""
    found: dict[WayNames, Sameness] = {}
    for cell in cells:
        pair = way_names(cell)
        found[pair] = max(
            found.get(pair, cell.verdict), cell.verdict, key=SAMENESS_RANKS.__getitem__
        )
    return found


def way_classes(names: Sequence[str], verdicts: Mapping[WayNames, Sameness]) -> list[list[str]]:
    """The ways in groups none of whose members were seen to differ by more than rounding: each way joins the first group that
    has it so, as `names` come."""
    groups: list[list[str]] = []
    for name in names:
        for group in groups:
            if all(
                verdicts.get(frozenset((name, other)), "equivalent") in ("equivalent", "rounding")
                for other in group
            ):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups
