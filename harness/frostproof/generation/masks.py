"""Kinds of masks, with a bias to the edges, where bugs are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

KINDS: dict[str, Callable[[int, int], list[bool]]] = {
    "none": lambda n, bits: [False] * n,
    "all": lambda n, bits: [True] * n,
    "first": lambda n, bits: [i == 0 for i in range(n)],
    "last": lambda n, bits: [i == n - 1 for i in range(n)],
    "all-but-first": lambda n, bits: [i != 0 for i in range(n)],
    "all-but-last": lambda n, bits: [i != n - 1 for i in range(n)],
    "alternating": lambda n, bits: [i % 2 == bits % 2 for i in range(n)],
    "prefix": lambda n, bits: [i <= bits % n for i in range(n)],
    "suffix": lambda n, bits: [i >= bits % n for i in range(n)],
    "random": lambda n, bits: [bool(bits + 1 >> i & 1) for i in range(n)],
}
"""Kind -> a function of n and a drawn integer that tells which of n units are frozen."""


def frozen_members(kind: str, units: Sequence[Sequence[T]], bits: int) -> tuple[T, ...]:
    """The members of the frozen units; a unit has the parameters of a layer, or a single one.

    >>> frozen_members("last", [["0.weight", "0.bias"], ["2.weight"]], 0)
    ('2.weight',)
    """
    chosen = KINDS[kind](len(units), bits)
    if all(chosen) and kind != "all":
        chosen[-1] = False  # with few units, "first" may be all of them: one has to train
    return tuple(
        member
        for unit, is_frozen in zip(units, chosen, strict=True)
        if is_frozen
        for member in unit
    )


AROUND: tuple[str, ...] = (
    *("parameter", "module", "module"),
    *["exactly"] * 4,
    *("less", "less", "more", "more", "none", "all"),
)
"""Kinds of masks around the parameters that a user's patterns match, as often as they are drawn."""


def around(
    kind: str, matches: Sequence[str], modules: Sequence[Sequence[str]], bits: int
) -> tuple[str, ...]:
    """A mask around `matches`; `modules` has the names of all parameters, by module.

    >>> around("less", ["a.w", "b.w"], [["a.w"], ["b.w"], ["c.w"]], 0)
    ('b.w',)
    """
    every = [name for module in modules for name in module]
    inside = [found for module in modules if (found := [n for n in module if n in matches])]
    outside = [found for module in modules if (found := [n for n in module if n not in matches])]
    one = inside[bits % len(inside)]
    chosen = {
        "none": (),
        "all": every,
        "exactly": matches,
        "module": one,
        "parameter": [matches[bits % len(matches)]],
        "less": [name for name in matches if name not in one],
        "more": [*matches, *outside[bits % len(outside)]],
    }[kind]
    return tuple(name for name in every if name in chosen)
