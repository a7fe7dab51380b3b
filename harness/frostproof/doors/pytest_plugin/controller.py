"""The controller: the process that reports. It checks the usage first, and prints the table last.

Findings reach it in the `user_properties` of reports, from workers as from this process itself.
"""

from __future__ import annotations

import random
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from frostproof.doors.pytest_plugin.collection import make_targets_importable
from frostproof.doors.pytest_plugin.gatherer import Gatherer, failing_cases
from frostproof.doors.pytest_plugin.items import parse_node_id
from frostproof.doors.pytest_plugin.options import (
    FOR_DECORATED,
    OPTIONS,
    PREFIX,
    REPORTS,
    RunOptions,
    asks_for_us,
    is_given,
)
from frostproof.doors.pytest_plugin.result_files import ResultFiles
from frostproof.errors import FrostproofError
from frostproof.process.interruption import interrupt
from frostproof.process.quiet import quiet
from frostproof.spec.patterns import listed
from frostproof.spec.setting import BY_NAME
from frostproof.verification.profiles import profile_text

if TYPE_CHECKING:
    from frostproof.results.rows import Results, SubjectRow


class Controller:
    def __init__(self, config: pytest.Config, run: RunOptions, gatherer: Gatherer) -> None:
        """Raises UsageError if something that the user named cannot be run or read."""
        self.config, self.run, self.gatherer = config, run, gatherer
        self.started = time.perf_counter()
        self.files = ResultFiles(run, gatherer.warn)
        self.not_run = _check_usage(config, run) if asks_for_us(config) else []
        """A line for each target of which there is nothing to run."""
        self.seed = _seed(config, run)
        self.devices: list[str] = []
        """The devices of our items; empty if the session has none."""
        self.results: Results | None = None
        self._previous_handler: Any = None

    def time_left(self) -> float | None:
        """Return the seconds that are left of the time budget, or None if there is no budget."""
        if self.run.time_budget is None:
            return None
        return self.started + self.run.time_budget - time.perf_counter()

    # At the start

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["frostproof_run"] = asdict(self.run)
        node.workerinput["frostproof_seed"] = self.seed
        node.workerinput["frostproof_time_left"] = self.time_left()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._begin(item.nodeid for item in session.items)

    def pytest_report_collectionfinish(self) -> list[str]:
        return self._header() if self.devices else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        if self.devices:
            return  # Another worker has collected the same items.
        self._begin(ids)
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if self.devices and reporter is not None:
            self._end_line_of_xdist(reporter)
            reporter.write_line("\n".join(self._header()))

    def _end_line_of_xdist(self, reporter: Any) -> None:
        """Wipe xdist's word that nodes are brought up from a terminal, and have it said once.

        With -q, xdist has no other word, and would repeat it below the header.
        """
        if reporter.isatty:
            reporter.rewrite("", erase=True)
            reporter.rewrite("")
        nodes: Any = self.config.pluginmanager.get_plugin("terminaldistreporter")
        if nodes is not None and self.config.get_verbosity() < 0:
            nodes.setstatus = nodes.ensure_show_status = lambda *status, **shown: None

    def _begin(self, node_ids: Iterable[str]) -> None:
        """If the session has items of ours, let SIGTERM end it in good order."""
        items = [item for item in map(parse_node_id, node_ids) if item is not None]
        self.devices = sorted({item.device for item in items})
        idle = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if items and idle and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, interrupt)

    def _header(self) -> list[str]:
        from importlib.metadata import version

        from frostproof.optimizers.registry import entry_point_subjects
        from frostproof.optimizers.targets import left_out
        from frostproof.process.device import determinism_settings

        run = self.run
        named = BY_NAME if "all" in run.settings else run.settings
        slow = (each for each in map(BY_NAME.get, named) if each is not None and each.one_in > 1)
        fewer = ", ".join(f"{-(-run.examples // each.one_in)} in {each.name}" for each in slow)
        extent = [f"{run.examples} examples{f' ({fewer})' if fewer else ''}"]
        if run.shards > 1:
            extent.append(f"in {run.shards} shards")
        if run.time_budget:
            extent.append(f"at most {run.time_budget:.0f} s")
        lines = [
            f"frostproof {version('frostproof')}: torch {version('torch')}, "
            f"hypothesis {version('hypothesis')}, devices {', '.join(self.devices)}, "
            "dtypes float32, float64, bfloat16",
            f"frostproof: profile {run.profile}, {', '.join(extent)}, seed {self.seed}",
        ]
        if run.model or run.way:
            given = {"model": run.model, "way": run.way, "freezing": ", ".join(run.freeze)}
            text = ", ".join(f"{key} {value}" for key, value in given.items() if value)
            lines.append(f"frostproof: {text}")
        lines += [f"frostproof: {text}" for text in _where_from(run.optimizers)]
        lines += [f"frostproof: {text}" for text in left_out(run.optimizers)]
        lines += [f"frostproof: {text}" for text in determinism_settings(self.devices)]
        lines += [f"frostproof: {failure}; it is left out" for failure in entry_point_subjects()[1]]
        return lines

    # During the run

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.gatherer.receive_collection(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.gatherer.receive(report)
        if self.devices:
            self.files.flush(self._results)

    def _results(self) -> Results:
        from frostproof.results.rows import Results, environment, totals

        rows = self.gatherer.merge()
        devices = {*self.devices, *(row.device for row in rows)}
        return Results(
            environment(
                devices, profile_text(self.run.profile, self.run.examples), self._seed(rows)
            ),
            rows,
            totals(rows, time.perf_counter() - self.started),
        )

    def _seed(self, rows: Iterable[SubjectRow]) -> int | None:
        """The seed of these rows, or None if they have several: decorated tests may state one."""
        stated = (re.search(r"seed (\d+)", row.facts.get("own-options", "")) for row in rows)
        seeds = {self.seed if each is None else int(each[1]) for each in stated} or {self.seed}
        return seeds.pop() if len(seeds) == 1 else None

    # At the end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and "optimizer" in self._ignored_options():
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        writes = any(getattr(self.run, each) for each in REPORTS)
        if not self.devices and not (writes and self.gatherer.rows):
            return
        self.gatherer.close()
        self.results = self._results()
        if session.exitstatus == pytest.ExitCode.OK and self.results.subjects:
            if missing := self._unjudged_targets(self.results):
                self.not_run.append(f"nothing was judged of {listed(missing)}: exit code 5")
            if missing or not self.results.totals.judgements:
                session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        try:
            self.files.write(self.results)
        except FrostproofError as error:  # The table is still printed.
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self.config.get_terminal_writer().line(f"\nfrostproof: {error}")

    def _ignored_options(self) -> list[str]:
        """The options of the command line that no test of this session has used."""
        if self.devices or self.config.option.collectonly:
            return []
        given = [each.name for each in OPTIONS if is_given(self.config, each)]
        return [each for each in given if each not in FOR_DECORATED or not self.gatherer.rows]

    def _unjudged_targets(self, results: Results) -> list[str]:
        """The targets that were asked for, and of which nothing was judged.

        A strict run asks for every optimizer of a module that is named as `module:*`.
        """
        judged = {row.target for row in results.subjects if row.judgements}
        asked = {target for target in self.run.optimizers if not target.endswith(":*")}
        asked |= {row.target for row in results.subjects} if self.run.strict else set()
        return sorted(asked - judged)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.not_run:
            terminalreporter.write_line(f"frostproof: {line}")
        drawn = ("seed" not in row.facts.get("own-options", "") for row in self.gatherer.rows)
        if not self.devices and any(drawn):  # a run of decorated tests has no header
            terminalreporter.write_line(
                f"frostproof: profile {self.run.profile}, seed {self.seed}, where a test states "
                f"no other: --{PREFIX}-seed {self.seed} repeats the examples"
            )
        if ignored := self._ignored_options():
            names = ", ".join(f"--{PREFIX}-{name}" for name in ignored)
            terminalreporter.write_line(
                f"frostproof: {names} did nothing: no test of frostproof_properties "
                f"{'' if self.gatherer.rows else 'or of @frostproof.parametrize '}has run; add "
                "--pyargs frostproof_properties",
                yellow=True,
            )
        if self.results is None or not self.results.subjects:
            return
        from frostproof.report.terminal import explained_lines, results_table
        from frostproof.results.baseline import comparison_lines

        results, baseline = self.results, self.files.baseline
        terminalreporter.section("frostproof")
        if self.config.get_verbosity() > 0:
            for row in results.subjects:
                if usage := row.facts.get("used-as"):
                    terminalreporter.write_line(f"{row.name} on {row.device}: {usage}")
            for line in explained_lines(results.subjects):
                terminalreporter.write_line(line)
        terminalreporter.write(results_table(results.subjects, results.totals))
        if baseline is not None:
            terminalreporter.write_line("\n".join(comparison_lines(results, baseline)))
        for warning in self.gatherer.warnings.values():
            terminalreporter.write_line(f"frostproof: warning: {warning}", yellow=True)

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Print the last words of a failing run: the commands that replay its counterexamples."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        rows = self.results.subjects if self.results is not None else []
        cases = list(dict.fromkeys(failing_cases(rows, strict=self.run.strict)))
        if cases and reporter is not None:
            from frostproof.report.failure_text import replay_commands

            reporter.write_line("\n".join(["", *replay_commands(cases)]))


def _where_from(targets: Iterable[str]) -> Iterator[str]:
    """The files of the user's packages: an old copy may be installed beside the one in a folder."""
    for name in dict.fromkeys(re.split(r"[.:]", target)[0] for target in targets):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and name != "torch":
            yield f"{name} is {file}"


def _seed(config: pytest.Config, run: RunOptions) -> int:
    """Return the seed for all processes: what we or Hypothesis were told, or one drawn here."""
    given = config.getoption("hypothesis_seed", None) if run.seed is None else run.seed
    if given is not None and str(given).isdigit():
        return int(given)
    return random.SystemRandom().randrange(1 << 32)


def _check_usage(config: pytest.Config, run: RunOptions) -> list[str]:
    """Look at the targets and devices before anything is run. Raises UsageError.

    Returns a line for each target of which there is nothing to run.
    """
    make_targets_importable(config)
    with quiet():
        from frostproof.doors.pytest_plugin import example_database, suite

        example_database.check_layers(run.databases)
        return suite.check_usage(run)
