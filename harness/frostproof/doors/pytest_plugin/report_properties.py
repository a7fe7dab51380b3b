"""What travels from a worker to the controller in the `user_properties` of pytest's reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostproof.results.rows import SubjectRow
    from frostproof.verification.item_report import ItemReport

FINDING = "frostproof"
"""Name of the property that carries what an item found, as JSON."""

ROWS = "frostproof-rows"
"""Name of the property that carries the rows of a decorated test's run, as JSON."""

WARNING = "frostproof-warning"
"""Name of the property that carries the text of a warning."""

DOUBTFUL = "frostproof-doubtful"
"""Name of the property of an item that fails only because of doubtful rows."""


def encode(found: ItemReport | Sequence[SubjectRow]) -> str:
    import msgspec

    return msgspec.json.encode(found).decode()
