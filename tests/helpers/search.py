"""Runs the search for one subject with one seed, as a profile does, without shrinking."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import hypothesis
from hypothesis import Phase, given, settings

from frostproof.generation.draws import drawn_by_seed_alone
from frostproof.process.fence import fenced
from frostproof.verification.profiles import PROFILES, batches
from frostproof.verification.search import batch_seed, reject_minimal, search_violations
from frostproof.verification.verification import Verification
from tests.helpers.planted import Planted


def finds(bug: Planted, seeds: Iterable[int], profile: str = "dev") -> Iterator[Verification]:
    """Search with each seed until a planted bug is seen to violate its invariant, or to the end."""
    subject = bug.subject  # one, which is probed once
    for seed in seeds:
        verification = Verification(subject, "cpu", approaches=bug.approaches)
        search(verification, seed, bug.invariant, profile=profile)
        yield verification


def shrunk(verification: Verification, seed: int) -> float:
    """Search as the dev profile does, and shrink. Returns the seconds that it took.

    The verification keeps what was found.
    """
    with fenced("cpu"):
        verification.prepare()
        started = time.perf_counter()
        search_violations(verification, PROFILES["dev"], seed)
        return time.perf_counter() - started


def flagged(verification: Verification) -> dict[str, str]:
    """Each invariant that was seen violated, with its message."""
    return {
        identity: tally.message
        for identity, tally in verification.tallies.items()
        if tally.violated
    }


class FoundError(Exception):
    """What was looked for has been seen."""


def search(
    verification: Verification,
    seed: int,
    *wanted: str,
    profile: str = "dev",
    examples: int | None = None,
) -> None:
    """Judge cases until the invariants `wanted` are violated, or the profile's number of them.

    `examples`: that number, instead of the profile's.

    Nothing is shrunk.
    """
    with fenced("cpu", verification.subject.setting):
        verification.prepare()
        _search(verification, seed, wanted, examples or PROFILES[profile])


def _search(verification: Verification, seed: int, wanted: Sequence[str], examples: int) -> None:
    with suppress(FoundError), drawn_by_seed_alone():
        for number, count in enumerate(batches(examples)):
            _search_batch(verification, batch_seed(seed, number), wanted, count)


def _search_batch(
    verification: Verification, seed: int, wanted: Sequence[str], examples: int
) -> None:
    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        derandomize=False,
        suppress_health_check=(),
    )
    @given(verification.cases)
    def holds(case):  # type: ignore[no-untyped-def]
        reject_minimal(verification, case)
        found = [
            identity for identity, tally in verification.tallies.items() if tally.case is not None
        ]
        verification.find_violations(case, [*verification.known_failures, *found])
        if wanted and all(verification.tallies[each].violated for each in wanted):
            raise FoundError

    holds()
