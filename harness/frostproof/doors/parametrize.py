"""`@frostproof.parametrize`: an author's own tests, one for each group of invariants.

The tests of one optimizer on one device share a run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pytest

from frostproof.doors.python import Report, check_optimizer, what_is_asked
from frostproof.errors import UsageError
from frostproof.invariants.registry import BY_ID, GROUPS
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import exists_on
from frostproof.process.device import select_devices
from frostproof.report.failure_text import replay_command
from frostproof.report.terminal import file_lines
from frostproof.results.rows import InvariantRow, SubjectRow
from frostproof.spec.ids import directness
from frostproof.spec.subject import Subject, expected_failure_faults
from frostproof.verification.item_report import doubt_message


class SharedRun:
    """One subject on one device, verified when a test first asks for the report."""

    def __init__(self, subject: Subject, device: str, options: Mapping[str, Any]) -> None:
        self.subject, self.device, self.options = subject, device, options
        self._told = False

    @cached_property
    def report(self) -> Report:
        return check_optimizer(self.subject, devices=[self.device], **self.options)

    def untold_rows(self) -> list[SubjectRow]:
        """What was found, the first time that this is asked after the run; empty before it."""
        if self._told or "report" not in self.__dict__:
            return []
        self._told = True
        return self.report.rows


class Check:
    """The argument of a decorated test, which calls it to verify one group of invariants."""

    def __init__(self, run: SharedRun, group: str) -> None:
        self.run, self.group = run, group

    def __call__(self) -> Report:
        """Raise the first violation of the group, or fail if something in it is doubtful."""
        __tracebackhide__ = True
        report, judged = self.run.report, False
        for row in report.rows:  # a comprehension would be a frame that pytest shows
            judged = self._judged(row) or judged
        if not judged:
            pytest.skip(
                f"{_where(report.rows[0])}: no case reached {', '.join(GROUPS[self.group])}"
            )
        return report

    def _judged(self, row: SubjectRow) -> bool:
        """Whether anything in the group was judged. Raises the first violation, or fails."""
        __tracebackhide__ = True
        where = _where(row)
        if row.status == "unusable":
            pytest.fail(f"{where} could not be judged: {row.reason}", pytrace=False)
        rows = [each for each in row.invariants if each.id in GROUPS[self.group]]
        rows.sort(key=lambda each: directness(each.id))
        strict = bool(self.run.options.get("strict"))
        grave = [each for each in rows if each.is_grave(strict=strict)]
        for each in grave:
            if each.status == "violated":
                error = BY_ID[each.id].broken(str(each.message), where)
                raise type(error)("\n".join([str(error), *_more(row, each)]))
        if doubts := [each for each in grave if each.status == "doubtful"]:
            pytest.fail(f"{where}: {doubt_message(doubts)}", pytrace=False)
        return any(each.judged for each in rows)

    def expected_failures(self) -> list[str]:
        """What of the group was violated as stated, and the reasons that were given."""
        return [
            f"{each.id}: {each.expected_reason}"
            for row in self.run.report.rows
            for each in row.invariants
            if each.id in GROUPS[self.group] and each.status == "expected"
        ]

    def __repr__(self) -> str:
        return f"<check of {self.group}>"


def parametrize(
    *optimizers: Any, devices: Sequence[str] = (), **options: Any
) -> Callable[[Any], Any]:
    """Parametrize a test with `check`, for each implementation, device and group of invariants.

    There may be several optimizers, which are then verified with the same options.

    The test receives `check`, a function without arguments. `check()` raises an AssertionError for
    the first violation in its group, and fails the test if something in it is doubtful or the
    optimizer could not be judged. Otherwise it returns the Report. It skips the test if no case
    reached an invariant of the group.

    The arguments are those of `check_optimizer`. The decorator raises UsageError as that does. With
    pytest-xdist, `--dist loadgroup` keeps the tests of one optimizer in one process, where they
    share a run.
    """
    for fault in expected_failure_faults(options.get("expected_failures") or {}):
        raise UsageError(fault)
    if not optimizers:
        raise UsageError("no optimizer: write @frostproof.parametrize(Lion)")
    what_is_asked(**{name: options[name] for name in ASKED if name in options})
    found, values = [each for optimizer in optimizers for each in subjects(optimizer)], []
    for device in select_devices(devices):
        for subject in found:
            if not exists_on(subject, device):
                continue
            run = SharedRun(subject, device, options)
            name = subject.target.rpartition(":")[2] + (
                "" if subject.variant == "default" else f"-{subject.variant}"
            )
            mark = pytest.mark.xdist_group(f"{name}@{device}")
            values += [
                pytest.param(Check(run, group), id=f"{name}@{device}-{group}", marks=mark)
                for group in GROUPS
                if _applies(group)
            ]
    return pytest.mark.parametrize("check", values)


ASKED = tuple(inspect.signature(what_is_asked).parameters)
"""The names of the options that name what optimizers are verified with."""


def _where(row: SubjectRow) -> str:
    return f"{row.name} on {row.device}"


def _more(row: SubjectRow, broken: InvariantRow) -> Iterator[str]:
    """The files of a violation, how to run it again, and what else is violated."""
    yield from file_lines(broken)
    if broken.case:
        yield f"    run it again: {replay_command(broken.case)}"
    others = [each.id for each in row.invariants if each.status == "violated" and each != broken]
    if others:
        yield f"    also violated: {', '.join(others)}"


def _applies(group: str) -> bool:
    """Whether any invariant of the group applies to an optimizer."""
    return any(BY_ID[identity].applies(optimizer=True) for identity in GROUPS[group])
