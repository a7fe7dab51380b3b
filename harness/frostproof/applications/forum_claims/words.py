"""A settled claim in words, for the terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from frostproof.applications.forum_claims.survey import ClaimSurvey, SettledClaim
from frostproof.errors import one_line

WIDTH, COLUMN = 100, 14


def claim_lines(row: SettledClaim) -> Iterator[str]:
    """The verdict and the id; whose words it is about; what the verdict rests on."""
    yield f"{row.verdict:{COLUMN}}{row.id}"
    for text in (*(f'{each.post}: "{each.words}"' for each in row.quotes), *_evidence(row)):
        yield textwrap.fill(
            text,
            WIDTH,
            initial_indent=" " * COLUMN,
            subsequent_indent=" " * (COLUMN + 2),
            break_on_hyphens=False,
        )


def _evidence(row: SettledClaim) -> Iterator[str]:
    if row.verdict == "true only if":
        yield f"only if {row.only_if}"
    yield verdict_reason(row)
    for each in row.shown:
        yield f"{'holds' if each.held else 'fails'}: {each.seen}"


def verdict_reason(row: SettledClaim) -> str:
    """What the verdict rests on, in numbers of examples.

    A script that does not show the same, or a condition of which one side was never drawn, is the reason why nothing is decided.
    """
    counts, tried = row.counts, row.counts.tried
    if row.doubt:
        return f"its script does not show it: {one_line(row.doubt)}"
    if row.verdict == "true":
        return f"held on {tried} of {tried} examples"
    if row.verdict == "true only if":
        return f"held on {counts.met_held} of {counts.met_held} examples where that is so, and on 0 of {counts.unmet_failed} others"
    if row.verdict == "undecided":
        one = "all" if counts.met_held else "none"
        return f"{one} of {tried} examples meet the condition, '{row.only_if}': more of them would tell"
    failed = counts.met_failed + counts.unmet_failed
    if row.only_if:
        wrong = counts.met_failed + counts.unmet_held
        return f"failed on {failed} of {tried} examples, and in {wrong} of them not as the condition says, '{row.only_if}'"
    return f"failed on {failed} of {tried} examples"


def totals_line(found: ClaimSurvey) -> str:
    words = Counter(row.verdict for row in found.claims)
    numbers = ", ".join(f"{count} {word}" for word, count in words.items())
    return f"{len(found.claims)} claims: {numbers}; torch {found.torch}, {found.examples} examples each, seed {found.seed}"
