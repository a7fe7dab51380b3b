"""The atlas as data: what `frostproof atlas --json` writes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from frostproof.results.rows import Environment
from frostproof.spec.case import Case

Sameness = Literal["equivalent", "rounding", "doubtful", "different"]
"""Doubtful: they trained otherwise, and the script that was made of it does not show it in a process of its own."""


class AtlasCell(msgspec.Struct, frozen=True):
    """Two ways to freeze, for one optimizer in one family of networks.

    `compared`: cases that both could freeze, those that shrinking tried included, and `different`: those in which they trained
    otherwise. `ulp`: the largest difference that was rounding, in units in the last place. Of the smallest case that told them
    apart: `cause`, `message`, the `case` itself, and its `script`, with torch and the optimizer's library alone; `doubt`: why the
    script did not show it, or could not be written. `reproducer`: the script's file.
    """

    target: str
    variant: str
    family: str
    left: str
    right: str
    verdict: Sameness
    compared: int
    different: int = 0
    ulp: float = 0.0
    cause: str | None = None
    message: str | None = None
    case: Case | None = None
    script: str | None = None
    doubt: str | None = None
    reproducer: str | None = None

    def replaced(self, **fields: Any) -> AtlasCell:
        """A copy with other values for some fields."""
        return msgspec.structs.replace(self, **fields)


class WayRecord(msgspec.Struct, frozen=True):
    """A way to freeze: its name, what one does, and what is seen of it on a small network (`traits`, by their names)."""

    name: str
    does: str
    traits: dict[str, bool | str]


class LostOptimizer(msgspec.Struct, frozen=True):
    """An optimizer of which nothing is known, and why."""

    target: str
    variant: str
    reason: str


class Atlas(msgspec.Struct, frozen=True):
    """All of it. `seconds`: how long it took."""

    environment: Environment
    ways: list[WayRecord]
    cells: list[AtlasCell]
    lost: list[LostOptimizer]
    seconds: float
    format: str = "frostproof-atlas"
    version: int = 1

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"
