"""The registry: the stated subjects of targets, which are used in place of discovery.

A distribution states them by an entry point in the group `frostproof.subjects`: a Subject, a list
of them, or a function that returns either. A test suite registers its own in code.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from frostproof.errors import FROM_USERS, UsageError
from frostproof.optimizers import zoo
from frostproof.spec.subject import Subject

GROUP = "frostproof.subjects"

_REGISTERED: dict[str, list[Subject]] = {}


def register(*subjects: Subject) -> None:
    """Use these subjects for their targets. A later one replaces that of the same variant.

    Raises UsageError, one line, for anything that is not a Subject.
    """
    for subject in subjects:
        if not isinstance(subject, Subject):
            raise UsageError(f"cannot register {subject!r:.80}: give a frostproof.Subject")
        others = [
            each for each in _REGISTERED.get(subject.target, []) if each.variant != subject.variant
        ]
        _REGISTERED[subject.target] = [*others, subject]


def registered_subjects(target: str) -> list[Subject]:
    """The stated subjects of a target; none if it is not registered."""
    return (
        _REGISTERED.get(target) or entry_point_subjects()[0].get(target) or zoo.subjects_of(target)
    )


def registered_targets() -> list[str]:
    """The registered targets, sorted."""
    return sorted({*_REGISTERED, *entry_point_subjects()[0]})


@cache
def entry_point_subjects() -> tuple[dict[str, list[Subject]], list[str]]:
    """The subjects of installed distributions by target, and a line per entry point that fails."""
    found: dict[str, list[Subject]] = {}
    failures = []
    for point in sorted(entry_points(group=GROUP)):
        try:
            for subject in _load_entry_point(point):
                found.setdefault(subject.target, []).append(subject)
        except FROM_USERS as error:
            text = " ".join(str(error).split())
            failures.append(
                f"entry point {point.name!r} of {GROUP} ({point.value}) raised "
                f"{type(error).__name__}: {text:.200}"
            )
    return found, failures


def _load_entry_point(point: EntryPoint) -> Iterable[Subject]:
    loaded: Any = point.load()
    if callable(loaded) and not isinstance(loaded, Subject):
        loaded = loaded()
    subjects = [loaded] if isinstance(loaded, Subject) else list(loaded)
    for subject in subjects:
        if not isinstance(subject, Subject):
            raise UsageError(
                f"it gives {subject!r:.80}: give a frostproof.Subject, or a list of them"
            )
    return subjects
