"""The test items of our suite: which they are, and what each of them verifies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from frostproof.verification.profiles import for_meta

if TYPE_CHECKING:
    import pytest

PACKAGE = "frostproof_properties"
"""The package of our tests."""

SUITE = re.compile(
    r"::test_(optimizer|autograd|known_failure)(_on_meta)?\[|test_(facts_\w+|claims)\.py::"
)
"""Matches the node id of every test of the suite."""

_NODE_ID = re.compile(
    r"::test_(optimizer|autograd|known_failure)(_on_meta)?"
    r"\[((?P<sought>[a-z-]+) of )?(?P<target>[^-@]+)-(?P<variant>[^@]+)"
    r"@(?P<device>[^@#]+)(#(?P<shard>\d+))?\]$"
)


class ItemId(NamedTuple):
    """What an item verifies."""

    target: str
    variant: str
    device: str
    shard: int
    """Counts from 1; 0 where the examples are not split."""
    sought: str | None
    """The expected failure that the item searches for, or None."""

    def examples(self, count: int, shards: int) -> int:
        """About how many of `count` examples per subject this item tries.

        A search for a known failure may end earlier, at the first that it finds.
        """
        return for_meta(count) if self.device == "meta" else -(-count // shards)


def parse_node_id(node_id: str) -> ItemId | None:
    """Return what the item with this node id verifies, or None if it is not one of our items.

    >>> parse_node_id("test_optimizers.py::test_optimizer[torch.optim:SGD-fused@cpu#2]")
    ItemId(target='torch.optim:SGD', variant='fused', device='cpu', shard=2, sought=None)
    """
    match = _NODE_ID.search(node_id)
    if match is None:
        return None
    target, variant, device, shard, sought = match.group(
        "target", "variant", "device", "shard", "sought"
    )
    return ItemId(target, variant, device, int(shard or 0), sought)


def planned_examples(node_ids: Iterable[str], examples: int, shards: int) -> dict[str, int]:
    """Return node id -> number of examples for each of our items, given `examples` per subject."""
    return {
        node_id: item.examples(examples, shards)
        for node_id in node_ids
        if (item := parse_node_id(node_id)) is not None
    }


def is_ours(item: pytest.Item) -> bool:
    return item.path.parent.name == PACKAGE


def verification_of(item: pytest.Item) -> Any:
    """Return what one of our tests verifies, or None if it states a fact of torch."""
    return item.callspec.params.get("verification") if hasattr(item, "callspec") else None
