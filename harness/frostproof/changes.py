"""What changed since an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from frostproof.results import Results

Change = Literal["new", "fixed", "still"]
Key = tuple[str, str, str, str]
"""Target, variant, device, and the id of an invariant; or `crashed`, of a subject that ended its process."""


def changes(now: Results, before: Results) -> dict[Key, Change]:
    """What is violated now and was not before, the other way round, and both times. What is no longer judged is not fixed.

    >>> changes(now, before)  # doctest: +SKIP
    {('mylib:Lion', 'default', 'cpu', 'thaw-resumes'): 'new'}
    """
    found, old = _verdicts(now), _verdicts(before)
    result: dict[Key, Change] = {}
    for key, violated in found.items():
        was = old.get(key, False)
        if violated or was:
            result[key] = ("still" if was else "new") if violated else "fixed"
    return result


def _verdicts(results: Results) -> Mapping[Key, bool]:
    """What was judged -> whether it was violated."""
    found: dict[Key, bool] = {}
    for row in results.subjects:
        if row.status != "unusable":
            found[*row.key, "crashed"] = row.status == "crashed"
        for each in row.invariants:
            if each.status in ("held", "violated", "expected"):
                found[*row.key, each.id] = each.status == "violated"
    return found
