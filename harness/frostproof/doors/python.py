"""Verification from Python: in this process, for scripts and notebooks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from frostproof.doors.pytest_plugin.suite import exists_on
from frostproof.errors import UsageError
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.probe import Unusable
from frostproof.process.device import chosen
from frostproof.process.fence import fenced
from frostproof.results import rows as results
from frostproof.spec.subject import expected_failure_faults
from frostproof.verification import profiles
from frostproof.verification.item_report import item_report
from frostproof.verification.reproduction import Reproduction, reproductions
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification


class Report:
    """What `check_optimizer` found. `rows` has one entry per implementation and device; str() is the table."""

    def __init__(self, rows: list[results.SubjectRow], seconds: float) -> None:
        self.rows = rows
        self.totals = results.totals(rows, seconds)

    @property
    def ok(self) -> bool:
        """Whether something was judged, and nothing violated or doubtful."""
        return self.totals.judgements > 0 and not self.totals.violated and not self.totals.doubtful

    def _repr_html_(self) -> str:
        """The report as a notebook shows it."""
        from frostproof.report.notebook import html

        return html(self.rows, self.ok)

    def __str__(self) -> str:
        from frostproof.report.terminal import table

        return table(self.rows, self.totals)


def check_optimizer(
    optimizer: Any,
    *,
    max_examples: int | None = None,
    profile: str = "dev",
    devices: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    strict: bool = False,
    seed: int | None = None,
) -> Report:
    """Verify an optimizer class, a Subject, or a function that returns an optimizer for a parameter list.

    `expected_failures` maps ids of invariants to the reason why they fail; one that holds after all is a violation.
    Raises UsageError for what is no optimizer, an absent device, or an expected failure that names no invariant or
    gives no reason.
    """
    expected = dict(expected_failures or {})
    for fault in expected_failure_faults(expected):
        raise UsageError(fault)
    examples = profiles.examples(profile, max_examples)
    started, rows = time.perf_counter(), []
    for device in chosen(devices):
        for subject in subjects(optimizer):
            if not exists_on(subject, device):
                continue
            known = {**subject.expected_failures, **expected}
            verification = Verification(
                replace(subject, expected_failures=known), device, strict=strict
            )
            sought = [
                verification.searching_for(identity)
                for identity in known
                if identity in verification.tallies and device != "meta"
            ]
            for each in (verification, *sought):
                found = _run(
                    each,
                    profiles.budget(
                        examples,
                        meta=device == "meta",
                        known_failure=each.only_invariant is not None,
                    ),
                    seed,
                )
                rows.append(item_report(each, found).row)
    return Report(results.merge_rows(rows), time.perf_counter() - started)


def _run(verification: Verification, examples: int, seed: int | None) -> dict[str, Reproduction]:
    """Search, and run the scripts of what was found, which stays in the verification."""
    with fenced(verification.indexed_device):
        try:
            verification.prepare()
        except Unusable:
            return {}
        search_violations(verification, examples, seed)
    return reproductions(verification, Path.cwd())
