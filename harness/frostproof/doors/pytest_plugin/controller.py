"""The pytest plugin: a guest in any project's pytest.

Until one of our tests is collected it imports neither torch nor Hypothesis. Results travel from workers in the
`user_properties` of reports; whoever is not a worker collects them, and writes the files and the table at the end.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frostproof.doors.pytest_plugin import options
from frostproof.doors.pytest_plugin.live_line import Live
from frostproof.doors.pytest_plugin.node_ids import parsed
from frostproof.doors.pytest_plugin.options import PACKAGE, Run
from frostproof.doors.pytest_plugin.remote_workers import Remote
from frostproof.doors.pytest_plugin.worker import (
    DOUBTFUL,
    FINDING,
    WARNING,
    Runner,
    bare,
    is_ours,
    verification_of,
)
from frostproof.errors import FrostproofError
from frostproof.process.interruption import interrupt
from frostproof.process.quiet import quiet
from frostproof.verification.deaths import Deaths

if TYPE_CHECKING:
    from frostproof.results.rows import InvariantRow, Results, SubjectRow

FLUSH = 60.0
"""Seconds between two writings of the results so far."""


def pytest_addoption(parser: pytest.Parser) -> None:
    options.register(parser)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """With `-n auto`, no more processes than an accelerator has memory for."""
    cores = yield
    if not options.means_us(config):
        return cores
    try:
        with quiet():
            from frostproof.process.device import most_workers

            most = most_workers(Run.of(config).devices)
    except FrostproofError:
        return cores  # told when the session starts
    return cores if most is None else min(cores, most)


def pytest_configure(config: pytest.Config) -> None:
    guest = Guest(config)
    config.pluginmanager.register(guest, "frostproof-guest")
    config.pluginmanager.register(
        Runner(config, guest.run, guest.seed, guest.time_left()), "frostproof-runner"
    )
    config.pluginmanager.register(Live(config, guest.run), "frostproof-live")
    config.pluginmanager.register(Remote(guest.warn), "frostproof-remote")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last words of a failing run: the commands that run its counterexamples again."""
    guest = config.pluginmanager.get_plugin("frostproof-guest")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if (
        guest is not None
        and guest.worker is None
        and reporter is not None
        and (paths := guest.failing_cases())
    ):
        from frostproof.report.failure_text import commands

        reporter.write_line("\n".join(["", *commands(paths)]))
    if guest is not None:
        guest.release()


class Guest:
    """Our part in one session."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.worker = getattr(config, "workerinput", None)
        self.started = time.perf_counter()
        self.rows: list[SubjectRow] = []
        self.interim: dict[str, SubjectRow] = {}  # of items that have not ended yet
        self.begun: dict[str, float] = {}
        self.again: set[str] = set()  # items whose process died, which were then run once more
        self.smallest: dict[tuple[tuple[str, str, str], str], tuple[list[int], InvariantRow]] = {}
        self.warnings: dict[str, str] = {}
        self.failed: set[bool] = (
            set()
        )  # of each test that failed: whether for nothing but what is doubtful
        self.found = False  # whether any of our tests is in this session
        self.written = self.started
        self.signalled: Any = None
        try:
            self.run = Run.of(config)
            self.baseline = None if self.worker is not None else self._baseline()
            if self.worker is None and options.means_us(config):
                self._check_usage(config)
        except FrostproofError as error:
            raise pytest.UsageError(f"frostproof: {error}") from None
        self.seed = self._seed(config)
        self.deaths = Deaths(Path(self.run.cases), config.invocation_params.dir, self.warn)

    def _baseline(self) -> Results | None:
        """The results of an earlier run; of a nightly, those that it is to replace. Raises UsageError."""
        last = (
            self.run.json
            if self.run.profile == "nightly" and self.run.json and Path(self.run.json).is_file()
            else None
        )
        if self.run.baseline is None and last is None:
            return None
        from frostproof.results.files import load_results

        if last is None or self.run.baseline is not None:
            return load_results(Path(str(self.run.baseline)))
        try:
            return load_results(Path(last))
        except FrostproofError as error:
            self.warn(f"the last results cannot be read: {error}")
            return None

    def time_left(self) -> float | None:
        """What is left of the time budget."""
        if self.worker is not None:
            left = self.worker["frostproof_time_left"]
            return None if left is None else float(left)
        return (
            None
            if self.run.time_budget is None
            else self.started + self.run.time_budget - time.perf_counter()
        )

    def _seed(self, config: pytest.Config) -> int:
        """One seed for all processes of the session: what Hypothesis or we were told, or one drawn here."""
        if self.worker is not None:
            return int(self.worker["frostproof_seed"])
        told = config.getoption("hypothesis_seed", None)
        if told is not None and str(told).isdigit():
            return int(told)
        return random.SystemRandom().randrange(1 << 32) if self.run.seed is None else self.run.seed

    def _check_usage(self, config: pytest.Config) -> None:
        """Refuse what cannot be run before anything is: this process looks at the targets and devices first."""
        _importable_from(config)
        with quiet():
            from frostproof.doors.pytest_plugin.example_database import check
            from frostproof.doors.pytest_plugin.suite import check_usage

            check(self.run.databases)
            check_usage(self.run)

    # Collection

    def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> pytest.Module | None:
        """An installed suite has the same ids of tests wherever it is installed, so that machines understand each other."""
        if module_path.parent.name != PACKAGE or not self.config.getoption("pyargs"):
            return None
        return pytest.Module.from_parent(
            parent, path=module_path, nodeid=f"{PACKAGE}/{module_path.name}"
        )

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "verification" in metafunc.fixturenames and metafunc.module.__name__.startswith(PACKAGE):
            with quiet():
                self._parametrize(metafunc)

    def _parametrize(self, metafunc: pytest.Metafunc) -> None:
        from frostproof.doors.pytest_plugin.suite import parameters
        from frostproof.process.device import chosen

        _importable_from(self.config)
        try:
            values = parameters(metafunc.function.__name__, self.run)
        except FrostproofError as error:
            raise pytest.UsageError(f"frostproof: {error}") from None
        self._find(chosen(self.run.devices))
        metafunc.parametrize("verification", values)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """With targets, leave out what is asked of torch itself: an author asks about the author's optimizer."""
        return True if self.run.optimizers and _is_of_torch(collection_path) else None

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """The same for what is named on the command line, which nobody may ignore; and leave out tests without parameters."""
        left_out = [
            item
            for item in items
            if (self.run.optimizers and _is_of_torch(item.path)) or _is_empty(item)
        ]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]

    def pytest_report_collectionfinish(self) -> list[str]:
        return self._header(self.devices) if self.found else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["frostproof_run"] = asdict(self.run)
        node.workerinput["frostproof_seed"] = self.seed
        node.workerinput["frostproof_time_left"] = self.time_left()
        node.workerinput["frostproof_notes"] = str(self.deaths.folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        items = [item for item in map(parsed, ids) if item is not None]
        if items and not self.found:
            self._find(sorted({item.device for item in items}))
            reporter = self.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.write_line("\n".join(self._header(self.devices)))

    def _find(self, devices: list[str]) -> None:
        """Some of our tests are in this session: it then ends in good order when it is asked to."""
        self.found, self.devices = True, devices
        idle = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self.worker is None and idle and threading.current_thread() is threading.main_thread():
            self.signalled = signal.signal(signal.SIGTERM, interrupt)

    def release(self) -> None:
        """Leave the process, and the machine, as they were."""
        self.deaths.close()
        if self.signalled is not None:
            signal.signal(signal.SIGTERM, self.signalled)

    def _header(self, devices: list[str]) -> list[str]:
        from importlib.metadata import version

        from frostproof.optimizers.registry import entry_point_subjects
        from frostproof.process.device import settings_of

        torch, hypothesis = version("torch"), version("hypothesis")
        return [
            f"frostproof {version('frostproof')}: torch {torch}, hypothesis {hypothesis}, devices {', '.join(devices)}, "
            f"dtypes float32, float64, bfloat16",
            f"frostproof: profile {self.run.profile}, {', '.join(self._extent())}, seed {self.seed}",
            *([f"frostproof: {text}" for text in settings_of(devices)]),
            *(f"frostproof: {failure}; it is left out" for failure in entry_point_subjects()[1]),
        ]

    def _extent(self) -> list[str]:
        """How much this run tries."""
        run = self.run
        shards = [f"in {run.shards} shards"] if run.shards > 1 else []
        return [
            f"{run.examples} examples",
            *shards,
            *([f"at most {run.time_budget:.0f} s"] if run.time_budget else []),
        ]

    # Reporting

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.begun[nodeid] = time.perf_counter()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """An item whose process died is run once more, as what killed it may have nothing to do with it; if it hung, it is not."""
        item = parsed(crashitem)
        if item is None:
            return
        self.deaths.learn(report.node.gateway.id, crashitem)
        hung = time.perf_counter() - self.begun[crashitem] >= self.run.timeout
        if not hung and crashitem not in self.again:
            self.again.add(crashitem)
            self.interim.pop(crashitem, None)
            sched.mark_test_pending(crashitem)
            report.outcome = "rerun"  # type: ignore[assignment]  # pytest counts by this word, whatever it is
            return
        from frostproof.results.rows import SubjectRow

        ended = f"was ended after {self.run.timeout} s" if hung else "died twice"
        reason = f"the worker process {ended}, while it ran this optimizer"
        row = SubjectRow(
            item.target, item.variant, item.device, "", "crashed", reason, 0, 0, 0.0, {}, []
        )
        self.deaths.save(row, crashitem)
        report.user_properties.append((FINDING, bare(row)))

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return ("rerun", "R", "RERUN") if str(report.outcome) == "rerun" else None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.add(False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.worker is not None:
            return
        if report.failed:
            self.failed.add(
                report.when == "call"
                and any(name == DOUBTFUL for name, _ in report.user_properties)
            )
        for name, value in report.user_properties:
            if name == WARNING:
                self.warn(str(value))
            elif name == FINDING and report.when == "setup":
                self.interim[report.nodeid] = self._received(str(value))
            elif (
                name == FINDING and report.when != "teardown"
            ):  # which carries that of the call again
                if report.when == "call":
                    self.interim.pop(report.nodeid, None)
                self.rows.append(self._received(str(value)))
        if self.run.json and self.found and time.perf_counter() - self.written > FLUSH:
            self._flush()

    def warn(self, text: str) -> None:
        """Keep it for the end; of what several processes say of one thing, the first."""
        self.warnings.setdefault(text.partition(": ")[0], text)

    def _received(self, text: str) -> SubjectRow:
        """The row of a finding, its counterexamples written to the folder of cases: of several for one invariant, the smallest."""
        import msgspec

        from frostproof.results.rows import SubjectRow
        from frostproof.spec.casefile import CaseFile, save

        data = msgspec.json.decode(text)
        row = msgspec.convert(data["row"], SubjectRow)
        for each in row.invariants:
            if each.id not in data["cases"]:
                continue
            script = data["scripts"].get(each.id)
            size, place = (
                [each.status == "doubtful", script is None, *data["sizes"][each.id]],
                (row.key, each.id),
            )
            if place in self.smallest and size > self.smallest[place][0]:
                continue
            self.smallest[place] = size, each
            try:
                event, parameters = data["places"].get(each.id, (None, ()))
                fields = {
                    **dict(zip(("target", "variant", "device"), row.key, strict=True)),
                    "invariant": each.id,
                    "message": each.message,
                    "case": data["cases"][each.id],
                    "event": event,
                    "parameters": parameters,
                }
                found = save(Path(self.run.cases), msgspec.convert(fields, CaseFile), script)
                each.case, each.reproducer = (str(path) if path else None for path in found)
            except OSError as error:
                self.warn(f"no case can be written to {self.run.cases}: {error.strerror}")
        return row

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.worker is not None or not self.found:
            return
        if session.exitstatus != pytest.ExitCode.INTERRUPTED:
            self.deaths.finish(self.rows)
        self.results = self._results([*self.rows, *self._unfinished()])
        self.rows = self.results.subjects
        if self.rows and self._left_out() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        try:
            self._write()
        except FrostproofError as error:  # the table is still to come
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self.config.get_terminal_writer().line(f"\nfrostproof: {error}")

    def _unfinished(self) -> Iterable[SubjectRow]:
        """What there is of items that did not end."""
        for row in self.interim.values():
            row.facts.setdefault("cut-short", "the run ended before it")
            for each in row.invariants:
                if each.status == "violated" and each.reproducer is None:
                    each.message = f"{each.message} (the run ended before its script was run)"
            yield row

    def _flush(self) -> None:
        """Write, on the way, the results so far for machines."""
        from frostproof.report.files import put

        self.written = time.perf_counter()
        with suppress(FrostproofError):  # the end will tell
            put(
                Path(str(self.run.json)),
                self._results([*self.rows, *self.interim.values()]).to_json(),
            )

    def _write(self) -> None:
        """Write the results. Raises UsageError."""
        from frostproof.report.files import write

        run = self.run
        json, markdown, html = (
            Path(file) if file else None for file in (run.json, run.markdown, run.html)
        )
        write(
            self.results,
            json=json,
            markdown=markdown,
            html=html,
            folders=(Path(), Path(run.cases)),
            baseline=self.baseline,
        )

    def _results(self, parts: list[SubjectRow]) -> Results:
        """What these parts of the run have found, as one."""
        from frostproof.results import rows as results

        rows = results.merge_rows(parts)
        for row in rows:
            for each in row.invariants:
                if (
                    each.status in ("expected", "doubtful", "violated")
                    and (row.key, each.id) in self.smallest
                ):
                    _, best = self.smallest[row.key, each.id]
                    each.message, each.case, each.reproducer = (
                        best.message,
                        best.case,
                        best.reproducer,
                    )
        total = results.totals(rows, time.perf_counter() - self.started)
        return results.Results(
            results.environment(self.devices, self.run.profile, self.seed), rows, total
        )

    @property
    def only_doubtful(self) -> bool:
        """Whether tests failed, and each of them for nothing but what is doubtful."""
        return self.failed == {True}

    def failing_cases(self) -> list[str]:
        """The case files of what fails this run, each once."""
        grave = (
            each
            for row in self.rows
            for each in row.invariants
            if each.severity != "cost" or self.run.strict
        )
        broken = [
            each.case for each in grave if each.status in ("violated", "doubtful") and each.case
        ]
        return list(dict.fromkeys([*(row.case for row in self.rows if row.case), *broken]))

    def _left_out(self) -> bool:
        """Whether nothing was judged at all, or nothing of a target that was asked for."""
        judged = {row.target for row in self.rows if row.judgements}
        asked = {target for target in self.run.optimizers if not target.endswith(":*")}
        return not judged or not asked <= judged

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.rows and self.worker is None:
            from frostproof.report.terminal import explained, table

            terminalreporter.section("frostproof")
            if self.config.get_verbosity() > 0:
                for row in self.rows:
                    if "used-as" in row.facts:
                        terminalreporter.write_line(
                            f"{row.name} on {row.device}: {row.facts['used-as']}"
                        )
                for line in explained(self.rows):
                    terminalreporter.write_line(line)
            terminalreporter.write(table(self.rows, self.results.totals))
            if self.baseline is not None:
                from frostproof.results.baseline import comparison_lines

                terminalreporter.write_line(
                    "\n".join(comparison_lines(self.results, self.baseline))
                )
            for warning in self.warnings.values():
                terminalreporter.write_line(f"frostproof: warning: {warning}", yellow=True)


def _is_of_torch(path: Path) -> bool:
    """Whether the file has tests of ours about torch, and not about optimizers that a user can name."""
    return (
        path.parent.name == PACKAGE
        and path.name.startswith("test_")
        and path.name != "test_optimizers.py"
    )


def _is_empty(item: pytest.Item) -> bool:
    """Whether one of our tests has nothing to verify: pytest makes an item of it all the same, to skip it."""
    return (
        is_ours(item)
        and (given := verification_of(item)) is not None
        and not hasattr(given, "tallies")
    )


def _importable_from(config: pytest.Config) -> None:
    """Let targets be found in the folder from which pytest was called, as `python -m` would."""
    folder = str(config.invocation_params.dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)
