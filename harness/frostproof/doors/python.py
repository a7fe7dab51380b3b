"""Verification from Python: in this process, for scripts and notebooks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from frostproof.errors import UnusableError, UsageError
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import exists_on, nothing_to_run
from frostproof.process.device import select_devices
from frostproof.process.fence import fenced
from frostproof.results import rows as results
from frostproof.spec.casefile import save
from frostproof.spec.imports import target_of
from frostproof.spec.subject import expected_failure_faults
from frostproof.verification import profiles
from frostproof.verification.item_report import ItemReport, item_report
from frostproof.verification.reproduction import Reproduction, reproductions
from frostproof.verification.requested import Requested, requested
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification


class Report:
    """What `check_optimizer` found. str() gives the table."""

    def __init__(self, rows: list[results.SubjectRow], seconds: float) -> None:
        self.rows = rows
        """One row for each implementation and device. The fields of rows and totals are those of
        the results file."""
        self.totals = results.totals(rows, seconds)
        """Sums over the rows."""

    @property
    def ok(self) -> bool:
        """Whether something was judged, and nothing is violated or doubtful."""
        return self.totals.judgements > 0 and not self.totals.violated and not self.totals.doubtful

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return f"<pre>{escape(str(self))}</pre>"

    def __repr__(self) -> str:
        """The table, which pytest shows where `assert report.ok, report` fails."""
        from frostproof.report.terminal import results_table

        return results_table(self.rows, self.totals)


def check_optimizer(
    optimizer: Any,
    *,
    max_examples: int | None = None,
    profile: str = "dev",
    devices: Sequence[str] = (),
    settings: Sequence[str] = (),
    model: Any = None,
    freeze: str | Sequence[str] = (),
    input: Any = None,
    training_step: Any = None,
    way: Any = None,
    expected_failures: Mapping[str, str] | None = None,
    strict: bool = False,
    seed: int | None = None,
    cases: str | Path | None = "frostproof-cases",
) -> Report:
    """Verify an optimizer in this process, and return a Report.

    - `optimizer`: an optimizer class, a Subject, or a function from a list of parameters to one.
    - `max_examples`: the number of cases for each implementation and device. By default the
      `profile` says it: `dev` tries 100, `ci` 400 and `nightly` 4000.
    - `devices`: names such as `cpu` or `cuda:1`; by default all that are available.
    - `settings`: names such as `eager`, `ddp` or `all`; by default `eager`.
    - `model`: your own model in the place of drawn networks: a function without arguments that
      returns it, or a pair of it and its inputs; or `module:name` of such a function.
    - `freeze`: globs on names of parameters, or names of modules, around which masks are drawn.
    - `input`: the sizes of a batch, such as `(8, 3, 32, 32)`, or a function that returns a batch.
    - `training_step`: a function of the model and a batch that returns the loss; by default the
      mean of the squares of the outputs.
    - `way`: your own way to freeze: `freeze(model, names)`, a class with it, or an Approach.
    - `expected_failures`: id of an invariant -> the reason why it fails. If it holds after all,
      that is a violation. With `model` or `way` they are muted, and not searched for.
    - `strict`: whether violations that only cost memory or time count, too.
    - `seed`: an integer, with which a run can be repeated. By default it is drawn.
    - `cases`: the folder for counterexamples and their scripts; None if none are to be written.

    Raises UsageError if an argument is none of these or cannot be imported from a module, a device
    or a setting is absent, nothing of the optimizer exists on the devices, the model cannot train
    on the batch, or an expected failure names no invariant or has no reason.
    """
    started, examples = time.perf_counter(), profiles.examples(profile, max_examples)
    asked = what_is_asked(settings, model, freeze, input, training_step, way)
    rows = [
        _saved(item_report(each, _run(each, examples, seed)), cases, asked.way)
        for each in _verifications(optimizer, devices, asked, expected_failures or {}, strict)
    ]
    return Report(results.merge_rows(rows), time.perf_counter() - started)


def _verifications(
    optimizer: Any,
    devices: Sequence[str],
    asked: Requested,
    expected: Mapping[str, str],
    strict: bool,
) -> Iterator[Verification]:
    """What a run consists of: each subject, and each of its failures that is searched for alone.

    Raises UsageError.
    """
    for fault in expected_failure_faults(expected):
        raise UsageError(fault)
    found, devices = subjects(optimizer), select_devices(devices)
    for fault in nothing_to_run(found, devices):
        raise UsageError(fault)
    for device, subject, setting in itertools.product(devices, found, asked.settings):
        if exists_on(subject, device):
            known = {**subject.expected_failures, **expected}
            verification = Verification(
                replace(subject, expected_failures=known).in_setting(setting),
                device,
                approaches=asked.approaches,
                model=asked.model,
                strict=strict,
            )
            searches = map(verification.searching_for, verification.searched_failures)
            yield from (verification, *searches)


def what_is_asked(
    settings: Sequence[str] = (),
    model: Any = None,
    freeze: str | Sequence[str] = (),
    input: Any = None,
    training_step: Any = None,
    way: Any = None,
) -> Requested:
    """What these arguments of `check_optimizer` name. Raises UsageError."""
    inputs = input
    if isinstance(input, list | tuple):
        inputs = ",".join(map(str, input))
    elif not (input is None or isinstance(input, str) or callable(input)):
        raise UsageError(
            f"input is of type {type(input).__name__}: give the sizes of a batch, as (8, 3), or a "
            "function that returns one"
        )
    return requested(
        settings,
        _target(model, "model"),
        [freeze] if isinstance(freeze, str) else freeze,
        _target(inputs, "input"),
        _target(training_step, "training_step"),
        _target(way, "way"),
    )


def _target(thing: Any, kind: str) -> str | None:
    return None if thing is None else target_of(thing, kind)


def _run(verification: Verification, examples: int, seed: int | None) -> dict[str, Reproduction]:
    """Search for violations, which stay in the verification, and run their scripts."""
    with fenced(verification.indexed_device, verification.subject.setting):
        try:
            verification.prepare()
        except UnusableError:
            return {}
        search_violations(verification, verification.budget(examples), seed)
    return reproductions(verification, Path.cwd())


def _saved(found: ItemReport, cases: str | Path | None, way: str | None) -> results.SubjectRow:
    """The row, after its counterexamples were written, if they are to be and can be."""
    for broken in found.row.invariants:
        case = found.case_file(broken, way)
        if cases is None or case is None:
            continue
        with suppress(OSError):  # The verdict does not need the files.
            path, beside = save(Path(cases), case, found.scripts.get(broken.id))
            broken.case, broken.reproducer = str(path), str(beside) if beside else None
    return found.row
