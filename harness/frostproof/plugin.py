"""The pytest plugin: a guest in any project's pytest.

Until one of our tests is collected it imports neither torch nor Hypothesis. Results travel from workers in the
`user_properties` of reports; whoever is not a worker collects them, and writes the files and the table at the end.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frostproof import options
from frostproof.errors import FrostproofError
from frostproof.options import Run
from frostproof.progress import Live
from frostproof.quiet import quiet

if TYPE_CHECKING:
    from frostproof.results import SubjectRow

PACKAGE = "frostproof_properties"
PROPERTY = "frostproof"
"""Name of the user property that carries a finding."""


def pytest_addoption(parser: pytest.Parser) -> None:
    options.register(parser)


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]  # of an earlier session in this process: settings stick to the test functions
    guest = Guest(config)
    config.pluginmanager.register(guest, "frostproof-guest")
    config.pluginmanager.register(Live(config, guest.run.examples), "frostproof-live")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last words of a failing run: the commands that run its counterexamples again."""
    guest = config.pluginmanager.get_plugin("frostproof-guest")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if guest is not None and guest.worker is None and reporter is not None and (paths := guest.failing_cases()):
        from frostproof.failure import commands

        reporter.write_line("\n".join(["", *commands(paths)]))


class Guest:
    """Our part in one session."""

    def __init__(self, config: pytest.Config) -> None:
        try:
            self.run = Run.of(config)
            if not hasattr(config, "workerinput") and self._is_meant(config):
                self._check_usage(config)
        except FrostproofError as error:
            raise pytest.UsageError(f"frostproof: {error}") from None
        self.config = config
        self.worker = getattr(config, "workerinput", None)
        self.started = time.perf_counter()
        self.rows: list[SubjectRow] = []
        self.found = False  # whether any of our tests is in this session
        self.seed = self._seed(config)

    def _seed(self, config: pytest.Config) -> int:
        """One seed for all processes of the session: what Hypothesis or we were told, or one drawn here."""
        if self.worker is not None:
            return int(self.worker["frostproof_seed"])
        told = config.getoption("hypothesis_seed", None)
        if told is not None and str(told).isdigit():
            return int(told)
        return random.SystemRandom().randrange(1 << 32) if self.run.seed is None else self.run.seed

    def _is_meant(self, config: pytest.Config) -> bool:
        """Whether this call of pytest names our suite or any of our options."""
        return options.given_on_command_line(config) or any(PACKAGE in argument for argument in config.args)

    def _check_usage(self, config: pytest.Config) -> None:
        """Refuse what cannot be run before anything is: this process looks at the targets and devices first."""
        _importable_from(config)
        with quiet():
            from frostproof.suite import check_usage

            check_usage(self.run)

    # Collection

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "verification" in metafunc.fixturenames and metafunc.module.__name__.startswith(PACKAGE):
            with quiet():
                self._parametrize(metafunc)

    def _parametrize(self, metafunc: pytest.Metafunc) -> None:
        import hypothesis

        from frostproof.device import chosen
        from frostproof.profile import hypothesis_settings
        from frostproof.suite import budget, parameters

        _importable_from(self.config)
        test = metafunc.function
        try:
            values = parameters(test.__name__, self.run)
        except FrostproofError as error:
            raise pytest.UsageError(f"frostproof: {error}") from None
        # In this order: a seed takes the database away, and with a seed that was drawn here failures are to be remembered.
        hypothesis.seed(self.seed)(test)
        hypothesis_settings(budget(test.__name__, self.run), remember=self.run.seed is None)(test)
        self.found = True
        self.devices = chosen(self.run.devices)
        metafunc.parametrize("verification", values)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """With targets, leave out what is asked of torch itself: an author asks about the author's optimizer."""
        return True if self.run.optimizers and _is_of_torch(collection_path) else None

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """The same for what is named on the command line, which nobody may ignore; and leave out tests without parameters."""
        left_out = [item for item in items if (self.run.optimizers and _is_of_torch(item.path)) or _is_empty(item)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]

    def pytest_report_collectionfinish(self) -> list[str]:
        return self._header(self.devices) if self.found else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["frostproof_seed"] = self.seed

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        subjects = [subject for subject in map(subject_of, ids) if subject is not None]
        if subjects and not self.found:
            self.found = True
            self.devices = sorted({device for _, _, device in subjects})
            reporter = self.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.write_line("\n".join(self._header(self.devices)))

    def _header(self, devices: list[str]) -> list[str]:
        from importlib.metadata import version

        from frostproof.registry import brought

        torch, hypothesis = version("torch"), version("hypothesis")
        return [
            f"frostproof {version('frostproof')}: torch {torch}, hypothesis {hypothesis}, devices {', '.join(devices)}, "
            f"dtypes float32, float64, bfloat16",
            f"frostproof: profile {self.run.profile}, {self.run.examples} examples, seed {self.seed}",
            *(f"frostproof: {failure}; it is left out" for failure in brought()[1]),
        ]

    # Running

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if not _is_ours(item):
            return (yield)
        from frostproof.fence import fenced
        from frostproof.probe import Unusable

        verification = _verification(item)
        if verification is None:
            with fenced("cpu"):
                return (yield)

        from frostproof.finding import finding
        from frostproof.invariants import Violation
        from frostproof.reproduction import reproductions

        self._watch()
        raised: BaseException | None = None
        try:
            with fenced(verification.place):
                try:
                    verification.prepare()
                except Unusable as unusable:
                    pytest.skip(str(unusable))
                return (yield)
        except (Violation, ExceptionGroup) as error:
            raised = error
        finally:
            self._unwatch()
            interrupted = isinstance(sys.exception(), KeyboardInterrupt)
            found = {} if interrupted else reproductions(verification, Path(self.config.invocation_params.dir))
            sent = finding(verification, found)
            item.user_properties.append((PROPERTY, _encoded(sent.row, sent.cases, sent.scripts)))
        doubtful = {identity for identity, each in found.items() if each.doubtful}
        if verification.sought is not None or _stands(raised, doubtful):
            raise raised
        return None  # the row says what was doubtful

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, pytest.TestReport]:
        """A violation in a few lines; with -v, in all that Hypothesis says of it."""
        report: pytest.TestReport = yield
        if report.failed and call.when == "call" and call.excinfo is not None and _is_ours(item) and self.config.get_verbosity() <= 0:
            from frostproof.failure import is_violation, short

            verification = _verification(item)
            if verification is not None and is_violation(call.excinfo.value):
                first, _, rest = short(verification, Path(self.run.cases)).partition("\n")
                if first:
                    # Not one text: pytest repeats that in its summary, in CI all of it.
                    report.longrepr = first
                    report.sections.insert(0, ("the counterexample", rest))
        return report

    def _watch(self) -> None:
        """In a worker, end the process when an optimizer hangs: xdist then blames the item and starts another worker."""
        if self.worker is not None and sys.__stderr__ is not None:
            import faulthandler

            faulthandler.dump_traceback_later(self.run.timeout, exit=True, file=sys.__stderr__)

    def _unwatch(self) -> None:
        if self.worker is not None:
            import faulthandler

            faulthandler.cancel_dump_traceback_later()

    # Reporting

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        subject = subject_of(crashitem)
        if subject is None:
            return
        from frostproof.results import SubjectRow

        target, variant, device = subject
        reason = f"the worker process died, or was ended after {self.run.timeout} s, while it ran this optimizer"
        row = SubjectRow(target, variant, device, "", "crashed", reason, 0, 0, 0.0, {}, [])
        report.user_properties.append((PROPERTY, _encoded(row, {}, {})))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.worker is None and report.when in ("call", "???"):
            for name, value in report.user_properties:
                if name == PROPERTY:
                    self.rows.append(_received(str(value), Path(self.run.cases)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.worker is not None or not self.found:
            return
        from frostproof import results

        self.rows = results.merged(self.rows)
        self.total = results.totals(self.rows, time.perf_counter() - self.started)
        if self.rows and self._left_out() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        outcome = results.Results(results.environment(self.devices, self.run.profile, self.seed), self.rows, self.total)
        from frostproof.report import write

        run = self.run
        json, markdown, html = (Path(file) if file else None for file in (run.json, run.markdown, run.html))
        try:
            write(outcome, json=json, markdown=markdown, html=html, folders=(Path(), Path(run.cases)))
        except FrostproofError as error:  # the table is still to come
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self.config.get_terminal_writer().line(f"\nfrostproof: {error}")

    def failing_cases(self) -> list[str]:
        """The case files of what fails this run, each once."""
        grave = (each for row in self.rows for each in row.invariants if each.severity != "cost" or self.run.strict)
        return list(dict.fromkeys(each.case for each in grave if each.status == "violated" and each.case))

    def _left_out(self) -> bool:
        """Whether nothing was judged at all, or nothing of a target that was asked for."""
        judged = {row.target for row in self.rows if row.judgements}
        asked = {target for target in self.run.optimizers if not target.endswith(":*")}
        return not judged or not asked <= judged

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.rows and self.worker is None:
            from frostproof.terminal import table

            terminalreporter.section("frostproof")
            if self.config.get_verbosity() > 0:
                for row in self.rows:
                    if "used-as" in row.facts:
                        terminalreporter.write_line(f"{row.name} on {row.device}: {row.facts['used-as']}")
            terminalreporter.write(table(self.rows, self.total))


def _is_ours(item: pytest.Item) -> bool:
    return item.path.parent.name == PACKAGE


def _is_of_torch(path: Path) -> bool:
    """Whether the file has tests of ours about torch, and not about optimizers that a user can name."""
    return path.parent.name == PACKAGE and path.name.startswith("test_") and path.name != "test_optimizers.py"


def _is_empty(item: pytest.Item) -> bool:
    """Whether one of our tests has nothing to verify: pytest makes an item of it all the same, to skip it."""
    return _is_ours(item) and (given := _verification(item)) is not None and not hasattr(given, "tallies")


def _verification(item: pytest.Item) -> Any:
    """What one of our tests verifies; None of a test that states a fact of torch."""
    return item.callspec.params.get("verification") if hasattr(item, "callspec") else None


def _importable_from(config: pytest.Config) -> None:
    """Let targets be found in the folder from which pytest was called, as `python -m` would."""
    folder = str(config.invocation_params.dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def subject_of(identity: str) -> tuple[str, str, str] | None:
    """Target, variant and device from the id of one of our items; None for anybody else's.

    >>> subject_of("test_optimizers.py::test_optimizer[torch.optim:SGD-fused@cpu]")
    ('torch.optim:SGD', 'fused', 'cpu')
    """
    found = _ID.search(identity)
    return (found["target"], found["variant"], found["device"]) if found else None


_ID = re.compile(
    r"::test_(optimizer|autograd|known_failure)(_on_meta)?"
    r"\[((?P<sought>[a-z-]+) of )?(?P<target>[^-@]+)-(?P<variant>[^@]+)@(?P<device>[^@]+)\]$"
)


def _stands(error: BaseException, doubtful: set[str]) -> bool:
    """Whether any part of what a test raised is more than a violation that its own script does not show."""
    from frostproof.invariants import BY_ID

    if isinstance(error, BaseExceptionGroup):
        return any(_stands(each, doubtful) for each in error.exceptions)
    return type(error) not in {BY_ID[identity].violation for identity in doubtful}


def _encoded(row: SubjectRow, cases: dict[str, Any], scripts: dict[str, str]) -> str:
    import msgspec

    return msgspec.json.encode({"row": row, "cases": cases, "scripts": scripts}).decode()


def _received(text: str, folder: Path) -> SubjectRow:
    """The row of a finding, its counterexamples written to `folder`."""
    import msgspec

    from frostproof.casefile import save
    from frostproof.results import SubjectRow

    data = msgspec.json.decode(text)
    row = msgspec.convert(data["row"], SubjectRow)
    for each in row.invariants:
        if each.id in data["cases"]:
            save(folder, row, each, data["cases"][each.id], data["scripts"].get(each.id))
    return row
