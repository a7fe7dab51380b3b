"""Profiles: how much a run tries, as complete Hypothesis settings.

Every field is set, because a profile otherwise inherits what Hypothesis loads under `CI`: no database, and the same
examples each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from frostproof.errors import UsageError

if TYPE_CHECKING:
    from hypothesis import Phase, settings
    from hypothesis.database import ExampleDatabase

PROFILES = {"dev": 100, "ci": 400, "nightly": 4000}
"""Profile -> examples per optimizer and device."""

BATCH = 2000
"""Examples that Hypothesis draws in one go: it remembers all that it has drawn, so that memory and time grow with them."""

SEARCH = 1000
"""Examples within which a known failure must show; its test ends at the first."""


def examples(profile: str, max_examples: int | None) -> int:
    """How many examples to try. Raises UsageError for an unknown profile or a number below 1."""
    if profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    if max_examples is not None and max_examples < 1:
        raise UsageError(f"max-examples is {max_examples}: give a number of at least 1")
    return PROFILES[profile] if max_examples is None else max_examples


def for_meta(count: int) -> int:
    """A part of the examples: operations on meta run in Python, many times as slowly, and there are no values to judge."""
    return max(1, count // 30)


def budget(
    count: int,
    *,
    meta: bool = False,
    known_failure: bool = False,
    shard: int | None = None,
    shards: int = 1,
) -> int:
    """How many of `count` examples a test tries: on meta, or in search of a known failure, which has a number of its own.

    Of several shards, the first take what does not divide.
    """
    if known_failure:
        return max(count, SEARCH)
    if meta:
        return for_meta(count)
    return count if shard is None else count // shards + (shard < count % shards)


def batches(count: int) -> Iterator[int]:
    """The sizes of the batches in which so many examples are tried.

    >>> list(batches(4500))
    [2000, 2000, 500]
    """
    for start in range(0, count, BATCH):
        yield min(BATCH, count - start)


def hypothesis_settings(
    count: int, database: ExampleDatabase | None = None, phases: tuple[Phase, ...] = ()
) -> settings:
    """Settings with every field given, for `count` examples; `database`: keeps failures, to try them first next time; `phases`: of
    Hypothesis, all where none are given."""
    from hypothesis import Phase, Verbosity, settings

    return settings(
        max_examples=count,
        derandomize=False,
        database=database,
        verbosity=Verbosity.normal,
        phases=phases or (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink),
        stateful_step_count=50,
        report_multiple_bugs=True,
        suppress_health_check=(),
        deadline=None,
        print_blob=False,
        backend="hypothesis",
    )
