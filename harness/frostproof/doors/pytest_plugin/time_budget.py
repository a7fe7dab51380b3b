"""A time budget for a whole run, of which each item gets its share."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from frostproof.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """Seconds of a time like `90s`, `30m` or `2h`. Raises UsageError.

    >>> seconds("1.5h")
    5400.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"time-budget is {text!r}: give a number and a unit, as 90s, 30m or 2h")
    return float(found[1]) * UNITS[found[2]]


class TimeBudget:
    """What is left of a budget of `seconds`, for the items that this and other processes share.

    `weights`: node id -> how much of the time the item deserves, in any unit. What one item leaves of its share is there for the
    next in the same process, so that all get theirs, in whatever order and place they are run.
    """

    def __init__(self, seconds: float, processes: int, weights: Mapping[str, int]) -> None:
        self.end = time.monotonic() + seconds
        self.unit = seconds * processes / max(1, sum(weights.values()))
        self.weights = weights
        self.allowed = self.used = 0.0

    def begin(self, item: str) -> float:
        """When this item is to end, on the clock of `time.monotonic`."""
        self.started = time.monotonic()
        self.allowed += self.unit * self.weights[item]
        return min(self.end, self.started + self.allowed - self.used)

    def finish(self) -> None:
        """The item that began last is done."""
        self.used += time.monotonic() - self.started
