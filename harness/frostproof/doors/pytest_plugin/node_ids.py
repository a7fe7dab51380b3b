"""The ids of our items, from which the process that reports knows what another one runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from frostproof.verification.profiles import for_meta

SUITE = re.compile(
    r"::test_(optimizer|autograd|known_failure)(_on_meta)?\[|test_(facts_\w+|claims)\.py::"
)
"""Every test of the suite."""

_ID = re.compile(
    r"::test_(optimizer|autograd|known_failure)(_on_meta)?"
    r"\[((?P<sought>[a-z-]+) of )?(?P<target>[^-@]+)-(?P<variant>[^@]+)@(?P<device>[^@#]+)(#(?P<shard>\d+))?\]$"
)


class ItemId(NamedTuple):
    """What an item verifies. `shard` counts from 1; 0 where there is one alone. `sought`: an expected failure, or None."""

    target: str
    variant: str
    device: str
    shard: int
    sought: str | None

    def examples(self, count: int, shards: int) -> int:
        """Of `count` examples per subject, about how many this item tries; a search for a known failure ends at the first."""
        return for_meta(count) if self.device == "meta" else -(-count // shards)


def parsed(node: str) -> ItemId | None:
    """What the item with this node id verifies; None for anybody else's.

    >>> parsed("test_optimizers.py::test_optimizer[torch.optim:SGD-fused@cpu#2]")
    ItemId(target='torch.optim:SGD', variant='fused', device='cpu', shard=2, sought=None)
    """
    found = _ID.search(node)
    return (
        ItemId(
            found["target"],
            found["variant"],
            found["device"],
            int(found["shard"] or 0),
            found["sought"],
        )
        if found
        else None
    )


def weights(nodes: Iterable[str], examples: int, shards: int) -> dict[str, int]:
    """Node id of each item of ours -> the examples that it tries, of so many per subject."""
    return {
        node: identity.examples(examples, shards)
        for node in nodes
        if (identity := parsed(node)) is not None
    }
