"""The verdict on a claim, which its examples decide: true, false, or true exactly under its condition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import hypothesis
import msgspec
from hypothesis import Phase, given

from frostproof.applications.forum_claims.claim import Claim, Example
from frostproof.process.fence import fenced
from frostproof.verification.profiles import hypothesis_settings

Word = Literal["true", "false", "true only if", "undecided"]


class Counts(msgspec.Struct, frozen=True):
    """Examples, by whether they meet the claim's condition, and whether the claim held. Where there is none, all meet it."""

    met_held: int
    met_failed: int
    unmet_held: int
    unmet_failed: int

    @property
    def tried(self) -> int:
        return self.met_held + self.met_failed + self.unmet_held + self.unmet_failed


class Shown(msgspec.Struct, frozen=True):
    """The smallest example of its kind, and what was seen there."""

    example: Example
    met: bool
    held: bool
    seen: str


class Verdict(msgspec.Struct, frozen=True):
    """`shown`: of a true claim, an example of it; of a false one, a counterexample, or an example that contradicts its
    condition; of one that is true only if, a counterexample and an example."""

    word: Word
    counts: Counts
    shown: tuple[Shown, ...]


class _FoundError(Exception):
    """An example of the kind that is looked for."""


def verdict(claim: Claim, examples: int = 200, seed: int = 0) -> Verdict:
    """Try the claim on so many examples, or on all that there are, with torch as it is in this process.

    "true": it held on each. "true only if": it held on each that meets its condition, on none of the others, and there were both.
    "undecided": there were not both. "false": anything else.
    """
    counted: Counter[tuple[bool, bool]] = Counter()
    known: dict[
        str, Shown
    ] = {}  # what is looked for later is among what is counted, and need not be tried again

    def tried(example: Example) -> Shown:
        key = repr(example)
        if key not in known:
            held, seen = claim.tried(**example)
            known[key] = Shown(
                example, claim.condition is None or claim.condition(**example), held, seen
            )
        return known[key]

    def count(example: Example) -> None:
        counted[tried(example).met, tried(example).held] += 1

    def smallest(kind: Callable[[Shown], bool]) -> Shown:
        found = [next(filter(kind, known.values()))]

        def look(example: Example) -> None:
            if kind(tried(example)):
                found[:] = [tried(example)]
                raise _FoundError

        with suppress(_FoundError):
            _search(claim, look, examples, seed, Phase.generate, Phase.shrink)
        return found[0]

    with fenced("cpu"):
        _search(claim, count, examples, seed, Phase.generate)
        counts = Counts(*(counted[met, held] for met in (True, False) for held in (True, False)))
        word = _word(counts, claim.condition is not None)
        return Verdict(word, counts, tuple(smallest(kind) for kind in _kinds(word)))


def _word(counts: Counts, conditional: bool) -> Word:
    if counts.met_failed or (counts.unmet_held and counts.unmet_failed):
        return "false"
    if counts.unmet_held or not conditional:
        return "true"
    return "true only if" if counts.met_held and counts.unmet_failed else "undecided"


def _kinds(word: Word) -> Iterator[Callable[[Shown], bool]]:
    """What to look for, to show why this is the verdict."""
    if word == "false":
        yield lambda each: each.held != each.met
    if word == "true only if":
        yield lambda each: not each.held
    if word in ("true", "true only if"):
        yield lambda each: each.held
    if word == "undecided":
        yield lambda each: True


def _search(
    claim: Claim, each: Callable[[Example], None], examples: int, seed: int, *phases: Phase
) -> None:
    """Hand on each example, the same for the same seed. The first that raises is shrunk, and the smallest is the last."""
    settings = hypothesis.settings(hypothesis_settings(examples), phases=phases)
    hypothesis.seed(seed)(settings(given(claim.examples)(each)))()
