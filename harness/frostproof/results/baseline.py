"""The comparison of a run with an earlier one, its baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from frostproof.results.rows import Results, RowKey
from frostproof.spec.patterns import listed

Change = Literal["new", "stale", "fixed", "still"]
Key = tuple[RowKey, str]
"""A row, and the id of an invariant; `crashed` if the process ended, and `not-judged` if the
optimizer could not be judged."""


def compare(now: Results, before: Results) -> dict[Key, Change]:
    """Which violations are new, fixed, or still there. Doubtful ones count as violations.

    An expected failure that no longer fails is stale, and no new violation.

    A violation is fixed only if its invariant was judged again and held, and its subject has no
    other violation. So is an expected failure whose expectation was dropped. A subject that was
    judged before, and is not now, is new.
    """
    found, old = _verdicts(now), _verdicts(before)
    stale = {(row.key, each.id) for row in now.subjects for each in row.invariants if each.is_stale}
    broken = {row for (row, _), verdict in found.items() if verdict == "violated"}
    result: dict[Key, Change] = {}
    for key, verdict in found.items():
        was = old.get(key, "held")
        if verdict == "violated":
            still = was == "violated"
            result[key] = "still" if still else "stale" if key in stale else "new"
        elif verdict == "held" and was != "held" and key[0] not in broken:
            result[key] = "fixed"
    judged = {row.key for row in before.subjects if row.status != "unusable"}
    for row in now.subjects:
        if row.status == "unusable" and row.key in judged:
            result[row.key, "not-judged"] = "new"
    return result


def comparison_lines(now: Results, before: Results) -> Iterator[str]:
    """A line with the counts, one for each new or fixed violation, and one of missing subjects."""
    found, names = compare(now, before), {row.key: row.name for row in now.subjects}
    counts = Counter(found.values())
    doubtful = {
        (row.key, each.id)
        for row in now.subjects
        for each in row.invariants
        if each.status == "doubtful"
    }
    or_doubtful = " or doubtful" if doubtful & found.keys() else ""
    yield (
        f"since the last results: {counts['new']} new, {counts['fixed']} fixed, "
        f"{counts['still']} still violated{or_doubtful}"
        f"{', ' + str(counts['stale']) + ' stale' if counts['stale'] else ''}"
    )
    for change in ("new", "stale", "fixed"):
        for (row, identity), each in found.items():
            if each == change:
                mark = " (doubtful)" if (row, identity) in doubtful else ""
                if each == "stale":
                    mark = ": expected to fail, but held: drop the expectation"
                yield f"  {change}: {names[row]} on {row.device}: {identity}{mark}"
    if missing := gone(now, before):
        yield f"  not in this run: {listed(missing)}"


def gone(now: Results, before: Results) -> list[str]:
    """The subjects of the earlier run that this one does not have, with their devices."""
    have = {row.key for row in now.subjects}
    return [f"{row.name} on {row.device}" for row in before.subjects if row.key not in have]


def has_new_failure(now: Results, before: Results | None) -> bool:
    """Whether a violation is new, or an expectation stale, costs aside.

    Without an earlier run, every violation is new.
    """
    costs = {
        (row.key, each.id)
        for row in now.subjects
        for each in row.invariants
        if not each.is_grave(strict=False)
    }
    old = Results(now.environment, [], now.totals) if before is None else before
    news = ("new", "stale")
    return any(change in news and key not in costs for key, change in compare(now, old).items())


def _verdicts(results: Results) -> Mapping[Key, str]:
    """For each judged invariant whether it held, was expected to fail, or was violated.

    What is doubtful counts as violated.
    """
    found: dict[Key, str] = {}
    for row in results.subjects:
        if row.status != "unusable":
            found[row.key, "crashed"] = "violated" if row.status == "crashed" else "held"
        for each in row.invariants:
            if each.status in ("held", "expected", "doubtful", "violated"):
                found[row.key, each.id] = "violated" if each.status == "doubtful" else each.status
    return found
