"""The verdict on a claim, decided by random examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import hypothesis
import msgspec
from hypothesis import Phase, given
from hypothesis import strategies as st

from frostproof.applications.forum_claims.claim import Claim, ClaimExample
from frostproof.process.fence import fenced
from frostproof.verification.profiles import hypothesis_settings

Word = Literal["true", "false", "true only if", "undecided"]


class ExampleCounts(msgspec.Struct, frozen=True):
    """How many examples met the claim's condition, and on how many the claim held.

    If a claim has no condition, every example meets it.
    """

    met_held: int
    met_failed: int
    unmet_held: int
    unmet_failed: int

    @property
    def tried(self) -> int:
        return self.met_held + self.met_failed + self.unmet_held + self.unmet_failed


class TriedExample(msgspec.Struct, frozen=True):
    """An example, and what its experiment observed."""

    example: ClaimExample
    met: bool
    """Whether the example meets the claim's condition."""
    held: bool
    seen: str


class ClaimVerdict(msgspec.Struct, frozen=True):
    word: Word
    counts: ExampleCounts
    shown: tuple[TriedExample, ...]
    """The smallest examples that explain the verdict. true: one on which the claim held. false: a
    counterexample, or an example that contradicts the condition. true only if: a counterexample,
    and one on which the claim held."""


class _ExampleFoundError(Exception):
    """Raised at an example of the kind that is searched for, so that Hypothesis shrinks it."""


def decide_claim(claim: Claim, examples: int = 200, seed: int = 0) -> ClaimVerdict:
    """Test the claim on up to `examples` examples, with torch as it is in this process.

    "true": it held on each. "true only if": it held on each that meets its condition and on no
    other, and there were examples of both kinds. "undecided": all examples were of one kind.
    "false": anything else.
    """
    counted: Counter[tuple[bool, bool]] = Counter()
    known: dict[str, TriedExample] = {}  # so that a later search runs no experiment again

    def try_example(example: ClaimExample) -> TriedExample:
        key = repr(example)
        if key not in known:
            held, seen = claim.experiment(**example)
            met = claim.condition is None or claim.condition(**example)
            known[key] = TriedExample(example, met, held, seen)
        return known[key]

    def count(example: ClaimExample) -> None:
        counted[try_example(example).met, try_example(example).held] += 1

    def smallest(is_of_kind: Callable[[TriedExample], bool]) -> TriedExample:
        found = [next(filter(is_of_kind, known.values()))]

        def look(example: ClaimExample) -> None:
            if is_of_kind(try_example(example)):
                found[:] = [try_example(example)]
                raise _ExampleFoundError

        with suppress(_ExampleFoundError):
            _search(claim, look, examples, seed, Phase.generate, Phase.shrink)
        return found[0]

    with fenced("cpu"):
        _search(claim, count, examples, seed, Phase.generate)
        numbers = (counted[met, held] for met in (True, False) for held in (True, False))
        counts = ExampleCounts(*numbers)
        word = _word(counts, claim.condition is not None)
        return ClaimVerdict(word, counts, tuple(smallest(kind) for kind in _kinds(word)))


def _word(counts: ExampleCounts, conditional: bool) -> Word:
    if counts.met_failed or (counts.unmet_held and counts.unmet_failed):
        return "false"
    if counts.unmet_held or not conditional:
        return "true"
    return "true only if" if counts.met_held and counts.unmet_failed else "undecided"


def _kinds(word: Word) -> Iterator[Callable[[TriedExample], bool]]:
    """The kinds of examples that explain this verdict."""
    if word == "false":
        yield lambda each: each.held != each.met
    if word == "true only if":
        yield lambda each: not each.held
    if word in ("true", "true only if"):
        yield lambda each: each.held
    if word == "undecided":
        yield lambda each: True


def _search(
    claim: Claim, each: Callable[[ClaimExample], None], examples: int, seed: int, *phases: Phase
) -> None:
    """Call `each` with examples that depend only on the seed.

    The first example at which it raises is shrunk, and the smallest such example is the last to
    be passed.
    """
    settings = hypothesis.settings(hypothesis_settings(examples), phases=phases)
    hypothesis.seed(seed)(settings(given(st.fixed_dictionaries(claim.examples))(each)))()
