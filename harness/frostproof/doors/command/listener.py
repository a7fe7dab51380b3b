"""What `frostproof check` has pytest do otherwise than `pytest` itself does."""

from __future__ import annotations

from typing import Any

import pytest

from frostproof.doors.pytest_plugin.items import parse_node_id
from frostproof.doors.pytest_plugin.options import ALL_OF_HYPOTHESIS
from frostproof.doors.pytest_plugin.report_properties import DOUBTFUL, FINDING

EXIT_CODES = {0: 0, 1: 1, 2: 130, 3: 3, 4: 2, 5: 5}
"""pytest's exit code -> ours. The help of `check` says what ours mean."""

DOUBTFUL_EXIT_CODE = 4
"""Our exit code if something is doubtful and nothing is worse."""


class Listener:
    """A plugin that leaves violations to the table, and knows what pytest has no exit code for."""

    only_doubtful = False
    stopped_by_failures = False
    """Whether it ended at the failures that `-x` or `--maxfail` allow: an interruption to xdist."""

    def __init__(self) -> None:
        self.counted: set[Any] = set()
        """What was found violated or doubtful: several shards may verify the same."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport, config: pytest.Config
    ) -> tuple[str, str, str] | None:
        """Count an item apart whose fault is in the table, so that pytest does not show it too."""
        names = {name for name, _ in getattr(report, "user_properties", ())}
        if report.when != "call" or not report.failed or FINDING not in names:
            return None
        if config.get_verbosity() >= ALL_OF_HYPOTHESIS:
            return None
        if DOUBTFUL not in names and not isinstance(report.longrepr, str):
            return None
        word = "doubtful" if DOUBTFUL in names else "violated"
        item = parse_node_id(report.nodeid)
        category = "" if item in self.counted else word  # "" is in no count
        self.counted.add(item)
        return category, "F", word.upper()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        most = session.config.getoption("maxfail") or 0
        self.stopped_by_failures = 0 < most <= session.testsfailed

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        controller = config.pluginmanager.get_plugin("frostproof-controller")
        self.only_doubtful = controller is not None and controller.gatherer.only_doubtful

    def exit_code(self, pytest_code: int) -> int:
        failed = pytest_code == 1 or (pytest_code == 2 and self.stopped_by_failures)
        if failed:
            return DOUBTFUL_EXIT_CODE if self.only_doubtful else 1
        return EXIT_CODES.get(pytest_code, 3)
