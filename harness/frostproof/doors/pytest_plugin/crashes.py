"""What happens when a worker dies: its item is run once more, or gets the verdict "crashed"."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.gatherer import Gatherer
from frostproof.doors.pytest_plugin.items import parse_node_id
from frostproof.doors.pytest_plugin.options import RunOptions
from frostproof.verification.deaths import Deaths


class CrashPolicy:
    """Makes sure that a crash costs one verdict and never the run."""

    def __init__(self, config: pytest.Config, run: RunOptions, gatherer: Gatherer) -> None:
        self.config, self.run, self.gatherer = config, run, gatherer
        folder = config.invocation_params.dir
        self.deaths = Deaths(Path(run.cases), folder, gatherer.warn, run.timeout, run.way)
        self._started: dict[str, float] = {}
        self._retried: set[str] = set()
        self._awaited: set[str] = set()
        """Items that are to be run once more, and have not ended since."""
        self._judged: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["frostproof_notes"] = str(self.deaths.notes_folder)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._started[nodeid] = time.monotonic()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """Retry the item once, because the cause may be unrelated. One that hung is not retried."""
        if parse_node_id(crashitem) is None:
            return
        if crashitem not in self._judged:
            self._allow_another_worker()
        in_event = self.deaths.learn(report.node.gateway.id, crashitem)
        elapsed = time.monotonic() - self._started.get(crashitem, time.monotonic())
        limit = self.run.event_timeout
        if elapsed >= self.run.timeout:
            self._judge(crashitem, f"was ended after {self.run.timeout} s")
        elif limit is not None and in_event >= 0.9 * limit:  # the clocks of files are coarse
            self._judge(crashitem, f"was ended after {limit:.0f} s in one event")
        elif self._retry(crashitem, sched):
            # pytest counts reports by this word, and accepts any.
            report.outcome = "rerun"  # type: ignore[assignment]
        else:
            self._judge(crashitem, "died twice" if crashitem in self._retried else "died")

    def _allow_another_worker(self) -> None:
        """Exempt this death from xdist's default limit of restarts.

        Every item of ours can die twice, so the deaths end. A limit that the user gave is kept.
        """
        session: Any = self.config.pluginmanager.get_plugin("dsession")
        limit = getattr(session, "_max_worker_restart", None)
        if self.config.getoption("maxworkerrestart") is None and limit is not None:
            session._max_worker_restart = limit + 1

    def _retry(self, node_id: str, sched: Any) -> bool:
        if node_id in self._retried:
            return False
        try:
            sched.mark_test_pending(node_id)
        except NotImplementedError:  # with --dist loadscope, loadfile, loadgroup and each
            return False
        self._retried.add(node_id)
        self._awaited.add(node_id)
        self.gatherer.interim.pop(node_id, None)
        return True

    def _judge(self, node_id: str, end: str) -> None:
        from frostproof.results.rows import Facts, SubjectRow
        from frostproof.spec.ids import name_of_way

        self._judged.add(node_id)
        self._awaited.discard(node_id)
        item = parse_node_id(node_id)
        assert item is not None
        reason = f"the worker process {end}, while it ran this optimizer"
        facts: Facts = {"way": name_of_way(self.run.way)} if self.run.way else {}
        row = SubjectRow(
            item.target, item.variant, item.device, "", "crashed", reason, 0, 0, 0.0, facts, []
        )
        self.deaths.save(row, node_id)
        self.gatherer.add_crash(row)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return ("rerun", "R", "RERUN") if str(report.outcome) == "rerun" else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._awaited.discard(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.INTERRUPTED:
            return
        for node_id in sorted(self._awaited):  # after the last worker that the user allowed
            self._judge(node_id, "died")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.deaths.finish(self.gatherer.rows)

    def pytest_unconfigure(self) -> None:
        self.deaths.close()
