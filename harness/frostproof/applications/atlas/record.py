"""The atlas as data: what `frostproof atlas --json` writes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from frostproof.results.rows import Environment
from frostproof.spec.case import Case

Sameness = Literal["equivalent", "rounding", "doubtful", "different"]
"""Doubtful: the ways trained differently in a trial, but not in a script of it."""


class AtlasCell(msgspec.Struct, frozen=True):
    """Two ways to freeze, for one optimizer and one family of networks."""

    target: str
    variant: str
    family: str
    left: str
    right: str
    verdict: Sameness
    compared: int
    """Cases that both ways could freeze, including those of shrinking."""
    different: int = 0
    """Cases in which the ways trained differently."""
    ulp: float = 0.0
    """The largest rounding difference, in units in the last place."""
    cause: str | None = None
    """Of the smallest case with a difference, like the next three fields."""
    message: str | None = None
    case: Case | None = None
    script: str | None = None
    """Shows the difference, with torch and the optimizer's library alone."""
    doubt: str | None = None
    """Why the script did not show the difference, or could not be written."""
    reproducer: str | None = None
    """The script's file."""

    def replaced(self, **fields: Any) -> AtlasCell:
        """A copy with other values for some fields."""
        return msgspec.structs.replace(self, **fields)


class WayRecord(msgspec.Struct, frozen=True):
    """A way to freeze."""

    name: str
    does: str
    """What a user of this way does."""
    traits: dict[str, bool | str]
    """The names of observed traits, and whether each was seen."""


class LostOptimizer(msgspec.Struct, frozen=True):
    """An optimizer that could not be explored."""

    target: str
    variant: str
    reason: str


class Atlas(msgspec.Struct, frozen=True):
    environment: Environment
    ways: list[WayRecord]
    cells: list[AtlasCell]
    lost: list[LostOptimizer]
    seconds: float
    """How long the run took."""
    format: str = "frostproof-atlas"
    version: int = 1

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"
