"""Runs the search for one subject with one seed, as the dev profile does, without shrinking."""

from __future__ import annotations

from contextlib import suppress

import hypothesis
from hypothesis import Phase, given, settings

from frostproof.fence import fenced
from frostproof.invariants import Violation
from frostproof.profile import PROFILES
from frostproof.verification import Verification


class Found(Exception):
    """What was looked for has been seen."""


def search(verification: Verification, seed: int, wanted: str | None = None) -> None:
    """Judge the dev profile's number of cases, or fewer, until the invariant `wanted` is violated."""
    with fenced("cpu"):
        verification.prepare()
        _search(verification, seed, wanted)


def _search(verification: Verification, seed: int, wanted: str | None) -> None:
    @hypothesis.seed(seed)
    @settings(
        max_examples=PROFILES["dev"], deadline=None, database=None, phases=(Phase.generate,), derandomize=False, suppress_health_check=()
    )
    @given(verification.cases)
    def holds(case):  # type: ignore[no-untyped-def]
        if wanted is None:
            verification.judge(case)
            return
        # A violation of another invariant must not end the search: each is looked for as if it stood alone.
        with suppress(Violation):
            verification.judge(case)
        if verification.tallies[wanted].violated:
            raise Found

    with suppress(Found):
        holds()
