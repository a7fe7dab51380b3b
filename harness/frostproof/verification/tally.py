"""What the trials of one subject showed about one invariant."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from frostproof.invariants.invariant import ShownBreach
from frostproof.spec.case import Case


@dataclass(slots=True)
class Tally:
    """The judgements of one invariant."""

    judged: int = 0
    """The number of trials that it judged."""

    violated: int = 0
    """The number of trials that violated it."""

    explained: Counter[str] = field(default_factory=Counter)
    """Id of an explanation -> the number of breaches that it explained away."""

    crashed: bool = False
    """Whether an exception was a violation."""

    message: str = ""
    """The message of the smallest case."""

    case: Case | None = None
    """The smallest case that violates it."""

    shown: ShownBreach | None = None
    """The trial and the breach of that case."""

    source: str = ""
    """The line of the optimizer's source that moved the weight, or raised, in that case."""

    by_order: bool = False
    """Whether that case holds where A and B have their parameters in the same places."""
