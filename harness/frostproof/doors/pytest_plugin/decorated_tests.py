"""Tests that `@frostproof.parametrize` decorates: what they found travels, and is told, as ours."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.doors.pytest_plugin.report_properties import ROWS, encode

if TYPE_CHECKING:
    from frostproof.doors.parametrize import Check


class DecoratedTests:
    """A plugin of every process that runs tests."""

    def __init__(self, run: RunOptions, seed: int, shared: Path | None = None) -> None:
        """`shared`: a folder of all processes of the session, if they are several."""
        self.defaults = {
            "max_examples": run.examples,
            "seed": seed,
            "cases": run.cases,
            "strict": run.strict,
        }
        self.shared = shared

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Give a run its options, and attach its rows to the report of the test that made it."""
        for check in _checks(item):
            check.run.defaults, check.run.shared = self.defaults, self.shared
        try:
            return (yield)
        finally:
            for check in _checks(item):
                if rows := check.run.untold_rows():
                    item.user_properties.append((ROWS, encode(rows)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, pytest.TestReport]:
        """Report a test as XFAIL if it passed, and something in its group fails as expected.

        The code behind `check()` has run by then, which `pytest.xfail` would not allow.
        """
        report: pytest.TestReport = yield
        if report.when == "call" and report.passed:
            reasons = [reason for check in _checks(item) for reason in check.expected_failures()]
            if reasons:
                report.outcome = "skipped"
                report.wasxfail = "reason: " + "; ".join(reasons)
        return report


def _checks(item: pytest.Item) -> Iterator[Check]:
    decorators = sys.modules.get("frostproof.doors.parametrize")
    if decorators is not None and hasattr(item, "callspec"):
        check = item.callspec.params.get("check")
        if isinstance(check, decorators.Check):
            yield check
