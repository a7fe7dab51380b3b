"""`@frostproof.parametrize`: an author's own tests, one for each group of invariants.

The tests of one optimizer on one device share a run.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frostproof.doors.python import Report, check_optimizer, what_is_asked
from frostproof.errors import UsageError
from frostproof.invariants.registry import BY_ID, GROUPS
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import exists_on
from frostproof.process.device import select_devices
from frostproof.report.failure_text import replay_command
from frostproof.report.terminal import drawn_lines, file_lines
from frostproof.results.rows import InvariantRow, SubjectRow
from frostproof.spec.ids import directness
from frostproof.spec.subject import Subject, expected_failure_faults
from frostproof.verification.item_report import doubt_message
from frostproof.verification.profiles import examples

try:
    import fcntl
except ImportError:  # Windows, where each worker makes a run of its own
    fcntl = None  # type: ignore[assignment]

REPEATING = ("profile", "max_examples", "seed")
"""The options that say which cases are tried."""

_numbers = itertools.count()


class SharedRun:
    """One subject on one device, verified when a test first asks for the report.

    The workers of pytest-xdist share it too: one of them makes the run, and the others wait.
    """

    def __init__(
        self, subject: Subject, device: str, options: Mapping[str, Any], *, required: bool = True
    ) -> None:
        """`required`: whether tests fail if it cannot be judged; or else they are skipped."""
        self.subject, self.device, self.options = subject, device, options
        self.required = required
        self.defaults: Mapping[str, Any] = {}
        """The options of the session, where the decorator states no other."""
        self.shared: Path | None = None
        """The folder of all processes of the session, if they are several."""
        self.number = next(_numbers)
        """It tells this run from others. All workers import the same tests in the same order."""
        self._told = False

    def option(self, name: str) -> Any:
        """What the decorator states, else the session; None if neither does."""
        return self.options.get(name, self.defaults.get(name))

    @cached_property
    def report(self) -> Report:
        if self.shared is None or fcntl is None or not self.shared.is_dir():
            return self._verified()
        path = self.shared / f"run-{self.number}.json"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, or this process dies
            if path.exists():
                rows = msgspec.json.decode(path.read_bytes(), type=list[SubjectRow])
                self._told = True
                return Report(rows, sum(row.seconds for row in rows))
            report = self._verified()
            path.write_bytes(msgspec.json.encode(report.rows))
            return report

    def _verified(self) -> Report:
        own = {"max_examples", "profile"} & self.options.keys()
        options = {k: v for k, v in self.defaults.items() if not (own and k == "max_examples")}
        options |= {**self.options, "devices": [self.device]}
        report = check_optimizer(self.subject, **options)
        stated = ", ".join(f"{k} {self.options[k]}" for k in REPEATING if k in self.options)
        for row in report.rows if stated else ():
            row.facts["own-options"] = stated
        return report

    @property
    def rows(self) -> list[SubjectRow]:
        """What was found; empty before the run, which this does not begin."""
        return self.report.rows if "report" in self.__dict__ else []

    def untold_rows(self) -> list[SubjectRow]:
        """What was found, the first time that this is asked after the run; empty before it."""
        rows = [] if self._told else self.rows
        self._told = self._told or bool(rows)
        return rows


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
            first = report.rows[0]
            reasons = "".join(f"; not tried: {each}" for each in first.facts.get("not-tried", ()))
            pytest.skip(
                f"{_where(first)}: no case reached {', '.join(GROUPS[self.group])}{reasons}"
            )
        return report

    def _judged(self, row: SubjectRow) -> bool:
        """Whether anything in the group was judged. Raises the first violation, or fails."""
        __tracebackhide__ = True
        where = _where(row)
        if row.status == "unusable":
            reason = f"{where} could not be judged: {row.reason}"
            if not self.run.required:
                pytest.skip(reason)
            pytest.fail(reason, pytrace=False)
        rows = [each for each in row.invariants if each.id in GROUPS[self.group]]
        rows.sort(key=lambda each: directness(each.id))
        strict = bool(self.run.option("strict"))
        grave = [each for each in rows if each.is_grave(strict=strict)]
        for each in grave:
            if each.status == "violated":
                error = BY_ID[each.id].broken(str(each.message), where)
                more = _more(row, each, self.run.option("seed"))
                raise type(error)("\n".join([str(error), *more]))
        if doubts := [each for each in grave if each.status == "doubtful"]:
            pytest.fail(f"{where}: {doubt_message(doubts)}", pytrace=False)
        return any(each.judged for each in rows)

    def expected_failures(self) -> list[str]:
        """What of the group was violated as stated, and the reasons that were given."""
        return [
            f"{each.id}: {each.expected_reason}"
            for row in self.run.rows
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
    optimizer could not be judged. Otherwise it returns the Report of the whole run, all groups. It
    skips the test if no case reached an invariant of the group, and says what was not tried, or if
    an implementation beside the first cannot be judged, as `differentiable` of torch.optim.

    The arguments are those of `check_optimizer`, and the decorator raises UsageError as that does.
    The options --frostproof-seed, -profile, -max-examples, -cases and -strict hold where it states
    no others, and --frostproof-json, -html and -markdown write what was found. The tests of one
    optimizer share a run, also in several workers of pytest-xdist.
    """
    known = [each for each in inspect.signature(check_optimizer).parameters if each != "optimizer"]
    for name in options.keys() - known:
        raise UsageError(
            f"{name!r} is not an option: give one of {', '.join(known)}. Arguments of the "
            f"optimizer belong in frostproof.Subject(..., arguments={{{name!r}: ...}})"
        )
    for fault in expected_failure_faults(options.get("expected_failures") or {}):
        raise UsageError(fault)
    if not optimizers or any(_is_a_test(each) for each in optimizers):
        raise UsageError("no optimizer: write @frostproof.parametrize(Lion)")
    examples(options.get("profile", "dev"), options.get("max_examples"))
    what_is_asked(**{name: options[name] for name in ASKED if name in options})
    found = [(i == 0, each) for one in optimizers for i, each in enumerate(subjects(one))]
    values = []
    for device in select_devices(devices):
        for is_first, subject in found:
            if not exists_on(subject, device):
                continue
            run = SharedRun(subject, device, options, required=is_first)
            name = subject.target.rpartition(":")[2] + (
                "" if subject.variant == "default" else f"-{subject.variant}"
            )
            values += [
                pytest.param(Check(run, group), id=f"{name}@{device}-{group}")
                for group in GROUPS
                if _applies(group)
            ]
    return pytest.mark.parametrize("check", values)


def _is_a_test(thing: Any) -> bool:
    """Whether the decorator was written without its parentheses."""
    return inspect.isfunction(thing) and "check" in inspect.signature(thing).parameters


ASKED = tuple(inspect.signature(what_is_asked).parameters)
"""The names of the options that name what optimizers are verified with."""


def _where(row: SubjectRow) -> str:
    return f"{row.name} on {row.device}"


def _more(row: SubjectRow, broken: InvariantRow, seed: int | None) -> Iterator[str]:
    """The files of a violation, how to run it again, and what else is violated."""
    yield from file_lines(broken)
    if seed is not None:
        yield f"    seed: {seed}"
    if broken.case:
        yield f"    run it again: {replay_command(broken.case)}"
    yield from drawn_lines(row, broken)
    others = [each.id for each in row.invariants if each.status == "violated" and each != broken]
    if others:
        yield f"    also violated: {', '.join(others)}"


def _applies(group: str) -> bool:
    """Whether any invariant of the group applies to an optimizer."""
    return any(BY_ID[identity].applies(optimizer=True) for identity in GROUPS[group])
