"""A search: random cases until the examples are spent, and the smallest case of everything that they violate.

Hypothesis draws all examples with nothing raised, so that a bug which shows in each of them hides no other. What was found is then
drawn once more with the same seed, and raised where it was seen. Hypothesis shrinks it from there, one invariant at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import hypothesis
import msgspec
from hypothesis import Phase
from hypothesis import strategies as st

from frostproof.errors import ViolationError
from frostproof.invariants.invariant import Invariant
from frostproof.process.allocator import release_free_memory
from frostproof.spec.case import Case
from frostproof.verification.profiles import batches, hypothesis_settings

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase

    from frostproof.verification.verification import Verification

SHRINKING = 15.0
"""Seconds in which smaller cases are tried, for all that was found together: of a slow optimizer, shrinking could take minutes."""

Remembered = Callable[[str], "ExampleDatabase | None"]
"""The id of an invariant -> where its failures are kept."""


def search_violations(
    verification: Verification,
    examples: int,
    seed: int | None,
    shard: int = 0,
    remembered: Remembered = lambda identity: None,
) -> list[BaseException]:
    """Try this many examples, and shrink what they violate. What fails the property is returned as Hypothesis raised it."""
    search = _Search(
        verification,
        random.SystemRandom().getrandbits(32) if seed is None else seed,
        shard,
        remembered,
    )
    search.remember()
    for number, count in enumerate(batches(examples)):
        if number:
            release_free_memory()
        search.explore(number, count)
        if verification.only_invariant is not None and search.found:
            break
    return search.shrunk()


def batch_seed(seed: int, shard: int, batch: int) -> int:
    """The seed of one batch of one shard; that of the run for the first."""
    return random.Random(f"{seed} {shard} {batch}").getrandbits(32) if shard or batch else seed


class _Search:
    def __init__(
        self, verification: Verification, seed: int, shard: int, remembered: Remembered
    ) -> None:
        self.verification, self.seed, self.shard, self.remembered = (
            verification,
            seed,
            shard,
            remembered,
        )
        self.found: dict[Invariant, tuple[int, int, bytes]] = {}
        """What is violated, with the batch and its size in which it was first seen, and the case that showed it as JSON."""
        self.raised: dict[Invariant, BaseException] = {}

    def _muted(self) -> tuple[str, ...]:
        """What need not be seen again: a trial goes on past it."""
        return (
            *self.verification.known_failures,
            *(invariant.id for invariant in (*self.found, *self.raised)),
        )

    def remember(self) -> None:
        """Try what failed in earlier runs, and shrink that at once."""
        deadline = time.monotonic() + SHRINKING
        for invariant in self.verification.invariants:
            database = self.remembered(invariant.id) if self.verification.fails(invariant) else None
            if database is not None:
                body = _Shrinking(self.verification, invariant, self._muted(), deadline).body
                error = self._run(body, None, 1, (Phase.reuse, Phase.shrink), database)
                if error is not None:
                    self.raised[invariant] = error

    def explore(self, number: int, count: int) -> None:
        """Draw a batch of examples, and note what is violated for the first time."""

        def body(case: Case) -> None:
            if self.verification.only_invariant is not None and self.found:
                return
            for invariant in self.verification.find_violations(case, self._muted()):
                if self.verification.fails(invariant) and invariant not in self.raised:
                    self.found.setdefault(invariant, (number, count, msgspec.json.encode(case)))

        error = self._run(body, number, count, (Phase.generate,), None)
        if error is not None:
            raise error

    def shrunk(self) -> list[BaseException]:
        """The exception of each invariant that is violated, at its smallest case."""
        end = time.monotonic() + SHRINKING
        for left, (invariant, (number, count, case)) in zip(
            range(len(self.found), 0, -1), self.found.items(), strict=True
        ):
            deadline = time.monotonic() + (end - time.monotonic()) / left
            others = tuple(identity for identity in self._muted() if identity != invariant.id)
            shrinking = _Shrinking(self.verification, invariant, others, deadline, case)
            phases = (Phase.generate, Phase.shrink)
            error = self._run(shrinking.body, number, count, phases, self.remembered(invariant.id))
            tally = self.verification.tallies[invariant.id]
            self.raised[invariant] = error or self.verification.violation_of(
                invariant, tally.message
            )
        return [
            self.raised[invariant]
            for invariant in self.verification.invariants
            if invariant in self.raised
        ]

    def _run(
        self,
        body: Callable[[Case], None],
        number: int | None,
        count: int,
        phases: tuple[Phase, ...],
        database: ExampleDatabase | None,
    ) -> BaseException | None:
        """Run a Hypothesis test; the violation that it raised, if any."""
        cases = self.verification.cases

        def test(data: Any) -> None:
            body(data.draw(cases, label="case"))

        given: Any = hypothesis.given(data=st.data())(test)
        if number is not None:
            # In this order: a seed takes the database away.
            given = hypothesis.seed(batch_seed(self.seed, self.shard, number))(given)
        # Where nothing is remembered, Hypothesis skips the test.
        with suppress(SkipTest):
            try:
                hypothesis_settings(count, database, phases)(given)()
            except ViolationError as violation:
                return violation
        return None


class _Shrinking:
    """The body of a test that raises one invariant's violation, from the case that is known to show it on."""

    def __init__(
        self,
        verification: Verification,
        invariant: Invariant,
        muted: tuple[str, ...],
        deadline: float,
        first: bytes | None = None,
    ) -> None:
        self.verification, self.invariant, self.muted, self.deadline, self.first = (
            verification,
            invariant,
            muted,
            deadline,
            first,
        )
        self.known: dict[bytes, Mapping[Invariant, str]] = {}
        if first is not None:
            self.known[first] = verification.failing[first]

    def body(self, case: Case) -> None:
        key = msgspec.json.encode(case)
        if self.first is not None:  # what comes before it is known to show nothing
            if key != self.first:
                return
            self.first = None
        if key not in self.known and time.monotonic() < self.deadline:
            self.known[key] = self.verification.find_violations(case, self.muted)
        message = self.known.get(key, {}).get(self.invariant)
        if message is not None:
            raise self.verification.violation_of(self.invariant, message)
