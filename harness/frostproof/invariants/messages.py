"""What a violation says: which parameter, by how much, under which approach."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

from frostproof.training.observation import Bits, Moment, Trial


def first_difference(
    positions: Iterable[int], left: tuple[Bits | None, ...], right: tuple[Bits | None, ...]
) -> int:
    """The first of `positions` at which the two differ. Raises StopIteration where none does."""
    return next(i for i in positions if left[i] != right[i])


def at(moment: Moment) -> str:
    return f"at event {moment.number} ({moment.event!r})"


def change(trial: Trial, position: int, before: Bits | None, after: Bits | None) -> str:
    """`0.weight[2]: 0.5 -> 0.45, the largest of 3 differences`; positions count in row-major order."""
    name = trial.case.parameters[position].name
    if before is None or after is None:
        return f"{name}: {'None' if before is None else 'allocated'} -> {'None' if after is None else 'allocated'}"
    return f"{name}{numbers(trial.case.dtype, before, after)}"


def numbers(dtype: str, before: Bits, after: Bits) -> str:
    from frostproof.training.bits import values

    if len(before) != len(after):
        return f" changed its size from {len(before)} to {len(after)} bytes"
    old, new = values(before, dtype), values(after, dtype)
    differing = [
        i
        for i, (x, y) in enumerate(zip(old, new, strict=True))
        if x != y and not (isnan(x) and isnan(y))
    ]
    if not differing:
        return " differs only in the sign of a zero or the payload of a NaN"
    worst = max(differing, key=lambda i: abs(new[i] - old[i]))
    rest = f", the largest of {len(differing)} differences" if len(differing) > 1 else ""
    return f"[{worst}]: {old[worst]:.9g} -> {new[worst]:.9g}{rest}"
