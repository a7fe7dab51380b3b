"""Profiles: how much a run tries, and its Hypothesis settings.

Every setting is given, because Hypothesis changes some defaults under `CI`: it then has no database
and draws the same examples each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostproof.errors import UsageError

if TYPE_CHECKING:
    from hypothesis import Phase, settings
    from hypothesis.database import ExampleDatabase

PROFILES = {"dev": 100, "ci": 400, "nightly": 4000}
"""Profile -> examples per optimizer and device."""

BATCH = range(25, 2000 + 1)
"""Examples per Hypothesis test. It begins with small ones, and remembers all of them, so that
memory and time grow."""

BATCHES = 16
"""So many batches let as many processes share an optimizer. Few examples have fewer."""

SEARCH = 1000
"""Examples, at least, within which an expected failure must show. Its search ends at the first."""

SEARCH_FROM_CASE = 100
"""The same where a known case is stated, with which the search begins."""


def examples(profile: str, max_examples: int | None) -> int:
    """The number of examples. Raises UsageError for an unknown profile or a number below 1."""
    if profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    if max_examples is not None and not (isinstance(max_examples, int) and max_examples > 0):
        raise UsageError(f"max-examples is {max_examples!r}: give a number of at least 1")
    return PROFILES[profile] if max_examples is None else max_examples


def profile_text(profile: str, count: int) -> str:
    """The profile, and the number of examples if it is another one.

    >>> profile_text("dev", 100), profile_text("dev", 200)
    ('dev', 'dev with 200 examples')
    """
    return profile if count == PROFILES[profile] else f"{profile} with {count} examples"


def batches(count: int, shards: int = 1) -> list[int]:
    """The sizes of the batches of so many examples: at least one for each shard.

    They are the same for all numbers of shards up to their own, so that a split changes no example.

    >>> batches(100)
    [25, 25, 25, 25]
    >>> batches(30)
    [15, 15]
    >>> batches(3, shards=2)
    [2, 1]
    """
    size = min(max(BATCH[0], -(-count // BATCHES)), BATCH[-1])
    number = max(-(-count // size), shards)
    return [max(1, count // number + (i < count % number)) for i in range(number)]


def shards_for(workers: int, items: int, count: int) -> int:
    """Into how many shards to split each of so many items, so that no worker is idle."""
    return max(1, min(workers // max(1, items), len(batches(count))))


def hypothesis_settings(
    count: int, database: ExampleDatabase | None = None, phases: tuple[Phase, ...] = ()
) -> settings:
    """Settings with every field given, for `count` examples.

    `database` keeps failures, to try them first next time. Without `phases`, all are run.
    """
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
