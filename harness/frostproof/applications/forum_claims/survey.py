"""The claims settled in one run, as data: what `frostproof claims --json` writes."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from frostproof.applications.forum_claims.claim import Claim, Quote
from frostproof.applications.forum_claims.script import claim_script
from frostproof.applications.forum_claims.verdict import (
    ExampleCounts,
    TriedExample,
    Word,
    decide_claim,
)
from frostproof.counterexamples.execution import HOLDS, reproduces


class SettledClaim(msgspec.Struct, frozen=True):
    """A claim, its verdict, and a script that was run in a process of its own."""

    id: str
    quotes: tuple[Quote, ...]
    statement: str
    only_if: str
    verdict: Word
    counts: ExampleCounts
    shown: tuple[TriedExample, ...]
    script: str
    """Runs the first of the examples in `shown`."""
    doubt: str
    """What the script printed if it did not show the same result; the claim is then undecided."""


class ClaimSurvey(msgspec.Struct, frozen=True):
    frostproof: str
    torch: str
    hypothesis: str
    python: str
    platform: str
    examples: int
    """How many examples of each claim were asked for."""
    seed: int
    claims: tuple[SettledClaim, ...]
    format: Literal["frostproof-claims"] = "frostproof-claims"
    version: Literal[1] = 1

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def make_survey(claims: Sequence[SettledClaim], examples: int, seed: int) -> ClaimSurvey:
    version = importlib.metadata.version
    return ClaimSurvey(
        version("frostproof"),
        version("torch"),
        version("hypothesis"),
        platform.python_version(),
        platform.platform(),
        examples,
        seed,
        tuple(claims),
    )


def settle_claim(claim: Claim, examples: int, seed: int) -> SettledClaim:
    """Decide the claim, and run the script of its first example."""
    found = decide_claim(claim, examples, seed)
    text = claim_script(claim, found.shown[0].example)
    doubt = _doubt(claim.id, found.shown[0], text)
    word: Word = "undecided" if doubt else found.word
    quotes = tuple(Quote(post, words) for post, words in claim.quotes.items())
    words = (claim.id, quotes, claim.statement, claim.only_if)
    return SettledClaim(*words, word, found.counts, found.shown, text, doubt)


def _doubt(identity: str, shown: TriedExample, text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "claim.py"
        path.write_text(text, encoding="utf-8")
        done = reproduces(path, identity, path.parent, expected=HOLDS if shown.held else "")
    agrees = done.said == HOLDS if shown.held else done.reproduced
    return "" if agrees else done.said
