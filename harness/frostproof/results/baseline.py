"""What changed since an earlier run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from frostproof.results.rows import Results

Change = Literal["new", "fixed", "still"]
Key = tuple[str, str, str, str]
"""Target, variant, device, and the id of an invariant; or `crashed`, of a subject that ended its process."""


def changes(now: Results, before: Results) -> dict[Key, Change]:
    """What is violated now and was not before, the other way round, and both times. What is doubtful counts as violated.

    What is no longer judged is not fixed; nor is what was not seen again in a subject that is still violated, as a search
    ends at the first that it finds.

    For example `{('mylib:Lion', 'default', 'cpu', 'thaw-resumes'): 'new'}`.
    """
    found, old = _verdicts(now), _verdicts(before)
    broken = {key[:3] for key, violated in found.items() if violated}
    result: dict[Key, Change] = {}
    for key, violated in found.items():
        was = old.get(key, False)
        if violated:
            result[key] = "still" if was else "new"
        elif was and key[:3] not in broken:
            result[key] = "fixed"
    return result


def told(now: Results, before: Results) -> Iterator[str]:
    """The same in lines: how many there are of each, and what is new or fixed by its name."""
    found, names = changes(now, before), {row.key: row.name for row in now.subjects}
    counts = Counter(found.values())
    doubtful = {
        (*row.key, each.id)
        for row in now.subjects
        for each in row.invariants
        if each.status == "doubtful"
    }
    or_doubtful = " or doubtful" if doubtful & found.keys() else ""
    yield f"since the last results: {counts['new']} new, {counts['fixed']} fixed, {counts['still']} still violated{or_doubtful}"
    for change in ("new", "fixed"):
        for key, each in found.items():
            if each == change:
                yield f"  {change}: {names[key[:3]]} on {key[2]}: {key[3]}{' (doubtful)' if key in doubtful else ''}"


def grave(now: Results, before: Results | None) -> bool:
    """Whether anything is new that is wrong, doubtful or crashes; without results from before, all is new."""
    costs = {
        (*row.key, each.id)
        for row in now.subjects
        for each in row.invariants
        if each.severity == "cost"
    }
    old = Results(now.environment, [], now.totals) if before is None else before
    return any(change == "new" and key not in costs for key, change in changes(now, old).items())


def _verdicts(results: Results) -> Mapping[Key, bool]:
    """What was judged -> whether it was seen violated, shown by a script or not."""
    found: dict[Key, bool] = {}
    for row in results.subjects:
        if row.status != "unusable":
            found[*row.key, "crashed"] = row.status == "crashed"
        for each in row.invariants:
            if each.status in ("held", "expected", "doubtful", "violated"):
                found[*row.key, each.id] = each.status in ("doubtful", "violated")
    return found
