"""A time budget for a whole run, which its items share."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from frostproof.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_seconds(text: str) -> float:
    """Return the seconds of a time like `90s`, `30m` or `2h`. Raises UsageError.

    >>> parse_seconds("1.5h")
    5400.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or not float(match[1]):
        raise UsageError(f"time-budget is {text!r}: give a number and a unit, as 90s, 30m or 2h")
    return float(match[1]) * UNITS[match[2]]


class TimeBudget:
    """What is left of a budget of `seconds`, which the items of all `processes` share.

    `shares` maps node ids to how much of the time an item deserves, in any unit. What an item
    leaves of its share goes to the next items of the same process. All items therefore get their
    share, whatever the order and the process in which they are run.
    """

    def __init__(self, seconds: float, processes: int, shares: Mapping[str, int]) -> None:
        self.end = time.monotonic() + seconds
        self.unit = seconds * processes / max(1, sum(shares.values()))
        self.shares = shares
        self.allowed = self.used = 0.0

    def begin(self, node_id: str) -> float:
        """Return when this item is to end, on the clock of `time.monotonic`."""
        self.started = time.monotonic()
        self.allowed += self.unit * self.shares[node_id]
        return min(self.end, self.started + self.allowed - self.used)

    def finish(self) -> None:
        """Count the time of the item that began last."""
        self.used += time.monotonic() - self.started
