"""A search: random cases until the examples are spent, and the smallest case of each violation.

Hypothesis first draws all examples and nothing is raised, so that a bug that shows in all of them
hides no other. The cases are then drawn once more with the same seed, and a violation is raised at
the case that showed it. From there Hypothesis shrinks, one invariant after the other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import SkipTest

import hypothesis
import msgspec
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.database import ExampleDatabase

from frostproof.errors import TimeSpentError, ViolationError
from frostproof.generation.draws import drawn_by_seed_alone
from frostproof.generation.reduction import reductions
from frostproof.invariants.invariant import Invariant
from frostproof.process.allocator import release_free_memory
from frostproof.process.frames import with_room_for_frames
from frostproof.spec.case import Case
from frostproof.spec.ids import directness
from frostproof.verification.profiles import BATCH, batches, hypothesis_settings

if TYPE_CHECKING:
    from frostproof.verification.tally import Tally
    from frostproof.verification.verification import Verification

SHRINKING = 20.0
"""Seconds for shrinking all that was found together; a slow optimizer would take minutes.

They are seconds of the processor, so that other work beside a run makes no larger counterexamples,
and PATIENCE times as many by the clock, because an optimizer may also wait.
"""
PATIENCE = 4
EXPECTED_SHRINKING = 4.0
"""The same for an expected failure or a cost, which nobody has to mend now."""

Databases = Callable[[str], "ExampleDatabase | None"]
"""The id of an invariant -> the database of its failures."""


@with_room_for_frames
def search_violations(
    verification: Verification,
    examples: int,
    seed: int | None,
    databases: Databases = lambda identity: None,
    shards: int = 1,
) -> list[BaseException]:
    """Try this many examples, shrink the violations, and return them as Hypothesis raised them.

    If the verification is one of several `shards`, it tries its share of them.

    Shrinking works as well as the draws allow. Two rules of `generation.cases` make them shrink: a
    draw keeps its meaning when another one shrinks, because draws of variable number come last or
    end with a draw of their own; and each place draws from its own strategy, because Hypothesis
    copies numbers between equal ones.
    """
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    search = _Search(verification, seed, databases)
    mine = [*enumerate(batches(examples, shards))][verification.shard or 0 :: shards]
    try:
        spent = search.explore_all(mine, release_memory=examples > BATCH[-1])
        with verification.phase("shrink"):
            search.shrink()
        if spent is not None:
            raise spent
    finally:
        search.set_aside_comparisons()  # Shrinking may have found some, or the time may be spent.
    return search.violations()


def batch_seed(seed: int, batch: int) -> int:
    """The seed of one batch; the first has the run's."""
    return random.Random(f"{seed} {batch}").getrandbits(32) if batch else seed


def reject_minimal(verification: Verification, case: Case) -> None:
    """Reject a case of which nothing but the beginning was drawn, and the rest is the simplest.

    Hypothesis begins with such cases, and with small ones, until several in a row are rejected.
    They find little: without them, half of the planted bugs are found in half as many examples. A
    search for a known failure begins with its known case, which may be so small.
    """
    if case.seed == 0 and verification.only_invariant is None:
        hypothesis.reject()


class _Deadline:
    """The end of some seconds of the processor, or of PATIENCE times as many by the clock."""

    def __init__(self, seconds: float) -> None:
        self.processor = time.process_time() + seconds
        self.clock = time.monotonic() + PATIENCE * seconds

    @property
    def left(self) -> float:
        """The seconds of the processor that are left, at most."""
        by_clock = (self.clock - time.monotonic()) / PATIENCE
        return max(0.0, min(self.processor - time.process_time(), by_clock))


class _Found(NamedTuple):
    """The first case that violated an invariant."""

    batch: int
    batch_size: int
    case: bytes
    """Its JSON."""
    messages: Mapping[Invariant, str]
    """Everything that it violated."""


class _Search:
    """The state of a search: what was found and what was raised."""

    def __init__(self, verification: Verification, seed: int, databases: Databases) -> None:
        self.verification, self.seed, self.databases = verification, seed, databases
        self.found: dict[Invariant, _Found] = {}
        self.raised: dict[Invariant, BaseException] = {}

    def _muted(self) -> tuple[str, ...]:
        """The known failures and all that was found: a trial goes on after them."""
        found = (invariant.id for invariant in (*self.found, *self.raised))
        return (*self.verification.known_failures, *found)

    def explore_all(
        self, batches: Iterable[tuple[int, int]], *, release_memory: bool
    ) -> TimeSpentError | None:
        """Draw these batches, until the time is spent; what ends it is returned.

        `release_memory`: whether to do so after each batch. Few examples leave little behind.
        """
        try:
            with self.verification.phase("search"):
                self.replay_earlier_failures()
                for number, count in batches:
                    self.explore(number, count)
                    if release_memory:
                        release_free_memory()
                    if self.verification.only_invariant is not None and self.found:
                        break
        except TimeSpentError as spent:
            return spent
        return None

    def replay_earlier_failures(self) -> None:
        """Try the cases that failed in earlier runs, and shrink them at once."""
        deadline = _Deadline(SHRINKING)
        for invariant in self.verification.invariants:
            database = self.databases(invariant.id) if self.verification.fails(invariant) else None
            if database is not None:
                shrinking = _Shrinking(self.verification, invariant, self._muted(), deadline)
                phases = (Phase.reuse, Phase.shrink)
                error = self._run(shrinking.body, None, 1, phases, database)
                if error is not None:
                    self.raised[invariant] = error

    def explore(self, batch: int, count: int) -> None:
        """Draw a batch of examples, and note each invariant that is violated for the first time."""

        def body(case: Case) -> None:
            if self.verification.only_invariant is not None and self.found:
                return
            reject_minimal(self.verification, case)
            messages = self.verification.find_violations(case, self._muted())
            for invariant in messages:
                if self.verification.fails(invariant) and invariant not in self.raised:
                    found = _Found(batch, count, msgspec.json.encode(case), messages)
                    self.found.setdefault(invariant, found)

        error = self._run(body, batch, count, (Phase.generate,), None)
        if error is not None:
            raise error

    def shrink(self) -> None:
        """Shrink each violation to its smallest case, and keep the exception that it raises.

        Hypothesis has a quarter of the time, and then whole parts of the case are left out.
        """
        self.set_aside_comparisons()
        expected = self.verification.only_invariant is not None
        seconds = EXPECTED_SHRINKING if expected else SHRINKING
        end, drawing = _Deadline(seconds), _Deadline(seconds / 4)
        smallest: dict[bytes, bytes] = {}
        for number, (invariant, found) in enumerate(self.found.items()):
            deadline = _Deadline(drawing.left / (len(self.found) - number))
            others = self._others(invariant)
            shrinking = _Shrinking(self.verification, invariant, others, deadline, found, smallest)
            phases = (Phase.reuse, Phase.generate, Phase.shrink)
            database = _Smallest(smallest.values(), self.databases(invariant.id))
            error = self._run(shrinking.body, found.batch, found.batch_size, phases, database)
            if shrinking.smallest and database.smallest:
                smallest[shrinking.smallest] = database.smallest
            message = self.verification.tallies[invariant.id].message
            self.raised[invariant] = error or self.verification.violation_of(invariant, message)
        broken = self.verification.broken
        for number, invariant in enumerate(broken):
            share = end.left / (len(broken) - number)
            most = share if self.verification.fails(invariant) else min(share, EXPECTED_SHRINKING)
            tally = self.verification.tallies[invariant.id]
            message = tally.message
            if self._leave_out(invariant, tally, _Deadline(most)):
                self.verification.shrunk.add(invariant.id)
            if invariant in self.raised and tally.message != message:
                violation = self.verification.violation_of(invariant, tally.message)
                violation.add_note(f"The smallest case: {tally.case!r}")
                self.raised[invariant] = violation

    def _others(self, invariant: Invariant) -> tuple[str, ...]:
        """The ids of what is muted while this one is shrunk."""
        return tuple(identity for identity in self._muted() if identity != invariant.id)

    def _leave_out(self, invariant: Invariant, tally: Tally, deadline: _Deadline) -> bool:
        """Leave out each part of the smallest case without which it still shows.

        The smallest cases of other invariants are tried first. A case takes the place of the one
        before where it is violated, as it is no larger. Returns whether the time was enough.
        """
        verification, others = self.verification, self._others(invariant)

        def shows(case: Case) -> bool:
            return invariant in verification.find_violations(case, others)

        cases = (each.case for each in verification.tallies.values())
        known = (case for case in cases if case is not None)
        for case in sorted(known, key=lambda case: case.size):
            if tally.case is None or case.size >= tally.case.size or not deadline.left:
                break
            if shows(case):
                break
        found = tally.case is not None
        while found:
            found, tried = False, 0
            while tally.case is not None:
                left = islice(reductions(tally.case, verification.subject), tried, None)
                candidate = next(left, None)
                if candidate is None:
                    break
                if not deadline.left:
                    return False
                if shows(candidate):
                    found = True
                else:
                    tried += 1
        return True

    def violations(self) -> list[BaseException]:
        """The exceptions that were raised, those of the most direct violations first."""
        order = sorted(self.raised, key=lambda invariant: directness(invariant.id))
        return [self.raised[invariant] for invariant in order]

    def set_aside_comparisons(self) -> None:
        """Drop what comparisons found, if two runs with one seed differ."""
        for invariant in self.verification.set_aside_comparisons():
            self.found.pop(invariant, None)
            self.raised.pop(invariant, None)

    def _run(
        self,
        body: Callable[[Case], None],
        batch: int | None,
        count: int,
        phases: tuple[Phase, ...],
        database: ExampleDatabase | None,
    ) -> BaseException | None:
        """Run `body` as a Hypothesis test, and return the violation that it raised, if any.

        `batch` selects the seed; None draws nothing, and reads the database.
        """
        cases = self.verification.cases

        def test(data: Any) -> None:
            body(data.draw(cases, label="case"))

        given: Any = hypothesis.given(data=st.data())(test)
        if batch is not None:
            # Before the settings, because a seed removes the database.
            given = hypothesis.seed(batch_seed(self.seed, batch))(given)
        # Hypothesis skips the test if the database is empty.
        with suppress(SkipTest, _SpentError), drawn_by_seed_alone():
            try:
                hypothesis_settings(count, database, phases)(given)()
            except ViolationError as violation:
                return violation
        return None


class _Smallest(ExampleDatabase):
    """The smallest cases of other invariants, with which Hypothesis begins, above a database.

    An optimizer that breaks several invariants often breaks them in the same case, so that most of
    them need not be shrunk again from a large one.
    """

    def __init__(self, others: Iterable[bytes], below: ExampleDatabase | None) -> None:
        super().__init__()
        self.others, self.below = [*others], below
        self.smallest: bytes | None = None
        """The draws of the smallest failure, as Hypothesis encodes them."""
        self.key: bytes | None = None

    def fetch(self, key: bytes) -> Iterable[bytes]:
        self.key = self.key or key
        return self.others if key == self.key else ()

    def save(self, key: bytes, value: bytes) -> None:
        if key == self.key:
            self.smallest = value
        if self.below is not None:
            self.below.save(key, value)

    def delete(self, key: bytes, value: bytes) -> None:
        if self.below is not None:
            self.below.delete(key, value)


class _SpentError(BaseException):
    """Ends shrinking. Hypothesis would go on for hundreds of cases, and catches an Exception."""


class _Shrinking:
    """The body of a test that raises one invariant's violation.

    It does nothing until it gets a case that shows the violation: the smallest case of another
    invariant may, and the first that was found does. After the deadline it runs no new case, and
    ends the test once that has seen the violation.
    """

    def __init__(
        self,
        verification: Verification,
        invariant: Invariant,
        muted: tuple[str, ...],
        deadline: _Deadline,
        first: _Found | None = None,
        others: Collection[bytes] = (),
    ) -> None:
        self.verification, self.invariant, self.muted = verification, invariant, muted
        self.deadline = deadline
        self.begins_with = None if first is None else {first.case, *others}
        self.known = {} if first is None else {first.case: first.messages}
        self.smallest: bytes | None = None
        """The JSON of the last case that raised: in the end, of the smallest."""

    def body(self, case: Case) -> None:
        key = msgspec.json.encode(case)
        if self.begins_with is not None and key not in self.begins_with:
            reject_minimal(self.verification, case)  # as the search did, to draw the same again
            return
        if key not in self.known:
            if not self.deadline.left:
                if self.smallest is not None:
                    raise _SpentError
                return
            self.known[key] = self.verification.find_violations(case, self.muted)
        message = self.known.get(key, {}).get(self.invariant)
        if message is not None:
            self.begins_with, self.smallest = None, key
            raise self.verification.violation_of(self.invariant, message)
