"""Runs our items: each with settings of its own, fenced, within its time, and reported."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frostproof.doors.pytest_plugin.items import is_ours, planned_examples, verification_of
from frostproof.doors.pytest_plugin.options import ALL_OF_HYPOTHESIS, RunOptions
from frostproof.doors.pytest_plugin.report_properties import DOUBTFUL, FINDING, WARNING, encode
from frostproof.doors.pytest_plugin.time_budget import TimeBudget
from frostproof.errors import TimeSpentError, UnusableError, ViolationError, one_line

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase

    from frostproof.results.rows import InvariantRow
    from frostproof.verification.item_report import ItemReport
    from frostproof.verification.verification import Verification

LEAST_EXAMPLES = 10
"""Examples that each item tries even if the time budget is spent, so that all items are judged."""


class ItemRunner:
    """Runs the items of a process that is not a worker. A worker does a little more, see there."""

    def __init__(
        self,
        config: pytest.Config,
        run: RunOptions,
        seed: int,
        time_left: float | None,
        processes: int = 1,
    ) -> None:
        """`time_left`: seconds that are left of the time budget of all `processes`."""
        self.config, self.run, self.seed = config, run, seed
        self.time_left, self.processes = time_left, processes
        self.budget: TimeBudget | None = None
        self.warnings: list[str] = []
        self.doubtful: set[str] = set()
        """Ids of the invariants that are doubtful in the item that ran last."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self.time_left is not None:
            node_ids = [item.nodeid for item in session.items]
            shares = planned_examples(node_ids, self.run.examples, self.run.shards)
            self.budget = TimeBudget(self.time_left, self.processes, shares)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if not is_ours(item):
            return (yield)
        verification = verification_of(item)
        if verification is not None:
            return (yield from self._verify(item, verification))

        from frostproof.process.fence import fenced

        with fenced("cpu"):
            return (yield)

    def _verify(self, item: pytest.Item, verification: Verification) -> Generator[None, Any, Any]:
        """Run one item, and attach what it found however it ends."""
        from frostproof.process.fence import fenced
        from frostproof.verification.item_report import doubt_message

        violation: ViolationError | ExceptionGroup[Any] | None = None
        spent, result = False, None
        self.doubtful = set()
        verification.before_each_trial = self.before_each_trial(item, verification)
        try:
            with self.watching(), fenced(verification.indexed_device, verification.subject.setting):
                _prepare(verification)
                result = yield
        except (ViolationError, ExceptionGroup) as error:
            violation = error
        except TimeSpentError as error:
            spent = True
            verification.cut_short_reason = str(error)
            violation = _as_one(verification.violations())
        except (Exception, pytest.fail.Exception) as error:  # as of another plugin's time limit
            verification.cut_short_reason = one_line(f"{type(error).__name__}: {error}", 200)
            raise
        finally:
            finding = self.report(item, verification)
        self.doubtful = {row.id for row in finding.row.invariants if row.status == "doubtful"}
        if failing := failing_doubts(finding, violation, verification.strict):
            item.user_properties.append((DOUBTFUL, ""))
            pytest.fail(doubt_message(failing), pytrace=False)
        if violation is not None:
            raise violation
        if spent and not verification.trials:
            pytest.skip(verification.cut_short_reason)
        if spent and verification.only_invariant is not None:
            pytest.skip(f"{verification.cut_short_reason} before it was found")
        return result

    def before_each_trial(
        self, item: pytest.Item, verification: Verification
    ) -> Callable[[], None]:
        """Return what is called before each trial; it raises TimeSpentError once time is up.

        If something was found, the search for more ends earlier, and the rest is for shrinking it.
        """
        if self.budget is None:
            return lambda: None
        from frostproof.verification.search import SHRINKING

        deadline = self.budget.begin(item.nodeid)
        for_shrinking = min(SHRINKING, (deadline - time.monotonic()) / 2)

        def check_time() -> None:
            found = verification.current_phase == "search" and verification.violations()
            end = deadline - for_shrinking if found else deadline
            if time.monotonic() >= end and verification.trials >= LEAST_EXAMPLES:
                raise TimeSpentError("the time budget was spent")

        return check_time

    def watching(self) -> AbstractContextManager[None]:
        """Nothing watches this process: it must not end where an optimizer hangs."""
        return nullcontext()

    def report(self, item: pytest.Item, verification: Verification) -> ItemReport:
        """Run the scripts of what was violated, and attach the finding to the item's report."""
        from frostproof.verification.item_report import item_report
        from frostproof.verification.reproduction import reproductions

        if self.budget is not None:
            self.budget.finish()
        interrupted = isinstance(sys.exception(), KeyboardInterrupt)
        if interrupted:
            verification.cut_short_reason = "interrupted"
            found = item_report(verification)
            self.send_interim(item, found)  # pytest makes no report of an interrupted item.
        else:
            folder = Path(self.config.invocation_params.dir)
            found = item_report(verification, reproductions(verification, folder))
        item.user_properties.append((FINDING, encode(found)))
        item.user_properties += [(WARNING, text) for text in self.warnings]
        self.warnings.clear()
        return found

    def send_interim(self, item: pytest.Item, finding: ItemReport) -> None:
        """Send what is known so far as a passed "setup" report, which pytest otherwise ignores."""
        properties = [(FINDING, encode(finding))]
        report = pytest.TestReport(
            item.nodeid, item.location, {}, "passed", None, "setup", user_properties=properties
        )
        self.config.hook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Search for violations. Raises the one that it finds, or a group of several."""
        verification = verification_of(pyfuncitem) if is_ours(pyfuncitem) else None
        if verification is None:
            return None
        from frostproof.doors.pytest_plugin.example_database import KeyedDatabase
        from frostproof.verification.search import search_violations

        count = verification.budget(self.run.examples)
        subject = verification.subject
        model = "" if verification.model is None else verification.model.network.factory
        way = self.run.way or ""
        names = filter(None, (subject.target, subject.label, verification.device, model, way))
        key = " ".join(names)

        def remembered(identity: str) -> ExampleDatabase | None:
            database = self.example_database
            return None if database is None else KeyedDatabase(database, f"{key} {identity}")

        shards = 1 if verification.shard is None else self.run.shards
        found = search_violations(verification, count, self.seed, remembered, shards)
        if len(found) == 1:
            raise found[0]
        if found:
            raise BaseExceptionGroup(f"{verification.id} violates {len(found)} invariants", found)
        return True

    @functools.cached_property
    def example_database(self) -> ExampleDatabase | None:
        """Where this process remembers failures.

        A run with a given seed repeats itself exactly, and so remembers nothing unless it was
        asked to.
        """
        from frostproof.doors.pytest_plugin.example_database import open_database

        if self.run.seed is not None and not self.run.databases:
            return None
        return open_database(self.run.databases, self.warnings.append)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, pytest.TestReport]:
        """Show a violation in one line, or with -vv as Hypothesis does."""
        report: pytest.TestReport = yield
        if not report.failed or call.when != "call" or call.excinfo is None:
            return report
        verification = verification_of(item) if is_ours(item) else None
        if verification is None or self.config.get_verbosity() >= ALL_OF_HYPOTHESIS:
            return report
        from frostproof.report.failure_text import failure_line, only_violations

        if only_violations(call.excinfo.value):
            report.longrepr = failure_line(verification, self.doubtful) or report.longrepr
        return report


def _prepare(verification: Verification) -> None:
    try:
        verification.prepare()
    except UnusableError as unusable:
        pytest.skip(str(unusable))


def _as_one(
    violations: Sequence[ViolationError],
) -> ViolationError | ExceptionGroup[Any] | None:
    if len(violations) > 1:
        return ExceptionGroup("in the time that there was", violations)
    return violations[0] if violations else None


def failing_doubts(
    finding: ItemReport, raised: BaseException | None, strict: bool
) -> list[InvariantRow]:
    """Return the doubtful rows for which an item fails; none if it fails for something else too."""
    doubtful = [row for row in finding.row.invariants if row.status == "doubtful"]
    if raised is None:
        return [row for row in doubtful if row.is_grave(strict=strict)]
    return [] if _is_beyond_doubt(raised, {row.id for row in doubtful}) else doubtful


def _is_beyond_doubt(error: BaseException, doubtful: set[str]) -> bool:
    """Whether a test raised anything that is not a violation of a doubtful row."""
    from frostproof.invariants.registry import BY_ID

    if isinstance(error, BaseExceptionGroup):
        return any(_is_beyond_doubt(each, doubtful) for each in error.exceptions)
    return type(error) not in {BY_ID[identity].violation for identity in doubtful}
