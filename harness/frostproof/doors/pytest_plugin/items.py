"""The test items of our suite: which they are, and what each of them verifies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest

PACKAGE = "frostproof_properties"
"""The package of our tests."""

_NODE_ID = re.compile(
    r"::test_(?:optimizer|autograd|known_failure|known_failure_of_autograd)"
    r"\[(?:[a-z-]+ of )?([^-@]+)-([^@]+)@([^@#]+)(?:#\d+)?\]$"
)


class ItemId(NamedTuple):
    """What an item verifies."""

    target: str
    variant: str
    device: str


def parse_node_id(node_id: str) -> ItemId | None:
    """Return what the item with this node id verifies, or None if it is not one of our items.

    >>> parse_node_id("test_optimizers.py::test_optimizer[torch.optim:SGD-fused@cpu#2]")
    ItemId(target='torch.optim:SGD', variant='fused', device='cpu')
    """
    match = _NODE_ID.search(node_id)
    return ItemId(*match.groups()) if match is not None else None


def planned_examples(node_ids: Iterable[str], examples: int, shards: int) -> dict[str, int]:
    """Return about how many examples each of our items tries, given `examples` per subject.

    A search for a known failure may end earlier, at the first that it finds.
    """
    return {each: -(-examples // shards) for each in node_ids if parse_node_id(each) is not None}


def is_ours(item: pytest.Item) -> bool:
    return item.path.parent.name == PACKAGE


def verification_of(item: pytest.Item) -> Any:
    """Return what one of our tests verifies, or None if it states a fact of torch."""
    return item.callspec.params.get("verification") if hasattr(item, "callspec") else None
