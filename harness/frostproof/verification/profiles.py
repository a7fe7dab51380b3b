"""Profiles: how much a run tries, and its Hypothesis settings.

Every setting is given, because Hypothesis changes some defaults under `CI`: it then has no database
and draws the same examples each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from frostproof.errors import UsageError
from frostproof.spec.setting import EAGER, Setting

if TYPE_CHECKING:
    from hypothesis import Phase, settings
    from hypothesis.database import ExampleDatabase

PROFILES = {"dev": 100, "ci": 400, "nightly": 4000}
"""Profile -> examples per optimizer and device."""

BATCH = 2000
"""Examples per Hypothesis test. It remembers all of them, so that memory and time grow."""

SEARCH = 1000
"""Examples within which a known failure must show. Its search ends at the first."""


def examples(profile: str, max_examples: int | None) -> int:
    """The number of examples. Raises UsageError for an unknown profile or a number below 1."""
    if profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    if max_examples is not None and not (isinstance(max_examples, int) and max_examples > 0):
        raise UsageError(f"max-examples is {max_examples!r}: give a number of at least 1")
    return PROFILES[profile] if max_examples is None else max_examples


def budget(
    count: int,
    setting: Setting = EAGER,
    *,
    known_failure: bool = False,
    shard: int | None = None,
    shards: int = 1,
) -> int:
    """The number of examples, of `count`, that a test tries.

    A search for a known failure has a number of its own. A slow setting tries fewer. If shards
    cannot be equal, the first ones try one more.
    """
    if known_failure:
        return max(count, SEARCH)
    count = -(-count // setting.one_in)
    return count if shard is None else max(1, count // shards + (shard < count % shards))


def batches(count: int) -> Iterator[int]:
    """The sizes of the batches of so many examples.

    >>> list(batches(4500))
    [2000, 2000, 500]
    """
    for start in range(0, count, BATCH):
        yield min(BATCH, count - start)


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
