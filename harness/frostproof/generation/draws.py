"""What a seed draws: the same cases in every process, whichever modules it has imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def drawn_by_seed_alone() -> Iterator[None]:
    """Inside this context, Hypothesis draws no number that it read in the source of a module.

    It draws some of its numbers from the source of all imported modules that are not installed,
    and has no setting that turns this off. A seed would draw other cases after an edit of the
    optimizer, or where one more module is imported: also between the search of a violation and its
    shrinking.
    """
    from hypothesis.internal.conjecture import providers
    from hypothesis.internal.constants_ast import Constants

    read_before: dict[object, object] = {}
    with (
        mock.patch.object(providers, "_get_local_constants", Constants),
        mock.patch.object(providers, "CONSTANTS_CACHE", read_before),
    ):
        yield
