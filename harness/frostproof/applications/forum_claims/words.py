"""A settled claim in words, for the terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from frostproof.applications.forum_claims.survey import ClaimSurvey, SettledClaim
from frostproof.errors import one_line

MARGIN = 14


def claim_lines(row: SettledClaim) -> Iterator[str]:
    """The verdict and the id, the quotes, and the reason for the verdict."""
    yield f"{row.verdict:{MARGIN}}{row.id}"
    margin, hanging = " " * MARGIN, " " * (MARGIN + 2)
    quotes = (f'{each.post}: "{each.words}"' for each in row.quotes)
    for text in (*quotes, *_findings(row)):
        yield textwrap.fill(
            text,
            100,
            initial_indent=margin,
            subsequent_indent=hanging,
            break_on_hyphens=False,
        )


def _findings(row: SettledClaim) -> Iterator[str]:
    if row.verdict == "true only if":
        yield f"only if {row.only_if}"
    yield verdict_reason(row)
    for each in row.shown:
        yield f"{'holds' if each.held else 'fails'}: {each.seen}"


def verdict_reason(row: SettledClaim) -> str:
    """Why this is the verdict, in numbers of examples.

    A claim is undecided if its script does not show the same result, or if only one side of its
    condition was ever drawn.
    """
    counts, tried = row.counts, row.counts.tried
    if row.doubt:
        return f"its script does not show it: {one_line(row.doubt)}"
    if row.verdict == "true":
        return f"it held on {tried} of {tried} examples"
    if row.verdict == "true only if":
        met = f"it held on {counts.met_held} of {counts.met_held} examples that meet the condition"
        return f"{met}, and on 0 of {counts.unmet_failed} others"
    if row.verdict == "undecided":
        side = "all" if counts.met_held else "none"
        condition = f"the condition '{row.only_if}'"
        return f"{side} of {tried} examples meet {condition}: try more examples"
    failed = f"it failed on {counts.met_failed + counts.unmet_failed} of {tried} examples"
    if row.only_if:
        wrong = counts.met_failed + counts.unmet_held
        return f"{failed}; {wrong} of all results contradict the condition '{row.only_if}'"
    return failed


def totals_line(found: ClaimSurvey) -> str:
    words = Counter(row.verdict for row in found.claims)
    numbers = ", ".join(f"{count} {word}" for word, count in words.items())
    run = f"torch {found.torch}, {found.examples} examples each, seed {found.seed}"
    return f"{len(found.claims)} claims: {numbers}; {run}"
