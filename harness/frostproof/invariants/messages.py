"""Numbers and events in words."""

from __future__ import annotations

from math import isnan

from frostproof.spec.program import AddFrozen, AnyEvent, Freeze, Thaw, renamed
from frostproof.training.observation import Bits, EventRecord, Trial

SHOWN_NAMES = 4
"""If an event names more parameters, the first three are shown."""


def event_text(event: AnyEvent) -> str:
    """The event as Python, with no long list of names."""
    return repr(renamed(event, _first_names))


def _first_names(event: Freeze | Thaw | AddFrozen) -> tuple[str, ...]:
    names, most = event.names, SHOWN_NAMES
    return names if len(names) <= most else (*names[: most - 1], f"{len(names) - most + 1} more")


def at(record: EventRecord) -> str:
    return f"at event {record.number} ({event_text(record.event)})"


def change(trial: Trial, position: int, before: Bits | None, after: Bits | None) -> str:
    """`0.weight[2]: 0.5 -> 0.45, the largest of 3 differences`; in row-major order."""
    name = trial.case.parameters[position].name
    if before is None or after is None:
        words = ("None" if each is None else "allocated" for each in (before, after))
        return f"{name}: {' -> '.join(words)}"
    return f"{name}{numbers(trial.case.dtype, before, after)}"


def numbers(dtype: str, before: Bits, after: Bits) -> str:
    """`[2]: 0.5 -> 0.45, the largest of 3 differences`."""
    from frostproof.training.bits import values

    if len(before) != len(after):
        return f" changed its size from {len(before)} to {len(after)} bytes"
    old, new = values(before, dtype), values(after, dtype)
    pairs = enumerate(zip(old, new, strict=True))
    differing = [i for i, (x, y) in pairs if x != y and not (isnan(x) and isnan(y))]
    if not differing:
        return " differs only in the sign of a zero or the payload of a NaN"
    worst = max(differing, key=lambda i: abs(new[i] - old[i]))
    rest = f", the largest of {len(differing)} differences" if len(differing) > 1 else ""
    one, other = (f"{each[worst]:.9g}" for each in (old, new))
    if one == other:  # float64 has more digits
        one, other = repr(old[worst]), repr(new[worst])
    return f"[{worst}]: {one} -> {other}{rest}"
