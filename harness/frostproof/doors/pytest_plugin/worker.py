"""What happens in a process that runs our items: each under settings of its own, fenced, within its time, and reported."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frostproof.doors.pytest_plugin.node_ids import weights
from frostproof.doors.pytest_plugin.options import PACKAGE, Run
from frostproof.doors.pytest_plugin.time_budget import Spent, TimeBudget
from frostproof.process.case_notes import Notes

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase

    from frostproof.results.rows import InvariantRow, SubjectRow
    from frostproof.verification.item_report import ItemReport
    from frostproof.verification.verification import Verification

FINDING, WARNING = "frostproof", "frostproof-warning"
"""Names of the user properties that carry a finding, and a warning, to the process that reports."""

DOUBTFUL = "frostproof-doubtful"
"""Name of the user property of an item that fails for nothing but what is doubtful."""

INTERIM = 5.0
"""Seconds between two interim findings, which are all that is left of an item whose process is killed."""

LEAST = 10
"""Examples that each item tries, however late it is in a time budget: nothing is left unjudged."""


class Runner:
    """Runs the items of ours in this process. `time_left`: of the time budget, as the process starts."""

    def __init__(self, config: pytest.Config, run: Run, seed: int, time_left: float | None) -> None:
        self.config, self.run, self.seed, self.time_left = config, run, seed, time_left
        self.in_worker = hasattr(config, "workerinput")
        self.budget: TimeBudget | None = None
        self.warnings: list[str] = []
        self.doubtful: set[str] = set()  # what the scripts of the item that ran last did not show

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self.time_left is not None:
            nodes = [item.nodeid for item in session.items]
            self.budget = TimeBudget(
                self.time_left,
                self._processes(),
                weights(nodes, self.run.examples, self.run.shards),
            )

    def _processes(self) -> int:
        return int(self.config.workerinput["workercount"]) if self.in_worker else 1  # type: ignore[attr-defined]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if not is_ours(item):
            return (yield)
        from frostproof.process.fence import fenced

        verification = verification_of(item)
        if verification is None:
            with fenced("cpu"):
                return (yield)

        from frostproof.invariants.invariant import Violation
        from frostproof.optimizers.probe import Unusable
        from frostproof.verification.item_report import doubt_message, item_report
        from frostproof.verification.reproduction import reproductions

        self._watch()
        raised: BaseException | None = None
        spent, result = False, None
        self.doubtful = set()
        try:
            verification.before_each_trial = self._before_each(item, verification)
            verification.note_case = self._noting(item)
            with fenced(verification.indexed_device):
                try:
                    verification.prepare()
                except Unusable as unusable:
                    pytest.skip(str(unusable))
                result = yield
        except (Violation, ExceptionGroup) as error:
            raised = error
        except Spent:
            spent = True
            verification.cut_short_reason = "the time budget was spent"
            found_so_far = verification.violations()
            raised = (
                ExceptionGroup("in the time that there was", found_so_far)
                if len(found_so_far) > 1
                else next(iter(found_so_far), None)
            )
        finally:
            self._unwatch()
            if self.budget is not None:
                self.budget.finish()
            interrupted = isinstance(sys.exception(), KeyboardInterrupt)
            if interrupted:
                verification.cut_short_reason = "interrupted"
            found = (
                {}
                if interrupted
                else reproductions(verification, Path(self.config.invocation_params.dir))
            )
            sent = item_report(verification, found)
            item.user_properties += [
                (FINDING, encoded(sent)),
                *((WARNING, text) for text in self.warnings),
            ]
            self.warnings.clear()
            if interrupted:
                self._send_interim(item, sent)
            if self.notes is not None:
                self.notes.clear()
        self.doubtful = {row.id for row in sent.row.invariants if row.status == "doubtful"}
        if failing := doubts(sent, raised, verification.strict):
            item.user_properties.append((DOUBTFUL, ""))
            pytest.fail(doubt_message(failing), pytrace=False)
        if raised is not None:
            raise raised
        if spent and (verification.only_invariant is not None or not verification.trials):
            pytest.skip(
                "the time budget was spent"
                + (" before it was found" if verification.trials else "")
            )
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Search for what one of our items violates, and raise it: one exception, or several in a group."""
        verification = verification_of(pyfuncitem) if is_ours(pyfuncitem) else None
        if verification is None:
            return None
        from frostproof.doors.pytest_plugin.example_database import Keyed
        from frostproof.verification.profiles import budget
        from frostproof.verification.search import search_violations

        meta, sought = verification.device == "meta", verification.only_invariant
        count = budget(
            self.run.examples,
            meta=meta,
            known_failure=sought is not None,
            shard=verification.shard,
            shards=self.run.shards,
        )
        key = " ".join(
            filter(
                None,
                (verification.subject.target, verification.subject.variant, verification.device),
            )
        )

        def remembered(identity: str) -> ExampleDatabase | None:
            return None if self.memory is None else Keyed(self.memory, f"{key} {identity}")

        found = search_violations(
            verification, count, self.seed, verification.shard or 0, remembered
        )
        if len(found) == 1:
            raise found[0]
        if found:
            raise BaseExceptionGroup(f"{verification.id} violates {len(found)} invariants", found)
        return True

    @functools.cached_property
    def memory(self) -> ExampleDatabase | None:
        """Where this process keeps failures: with a seed that was drawn here. One that is given repeats exactly, unless memory is
        asked for, too.
        """
        from frostproof.doors.pytest_plugin.example_database import database

        return (
            database(self.run.databases, self.warnings.append)
            if self.run.seed is None or self.run.databases
            else None
        )

    def _before_each(self, item: pytest.Item, verification: Verification) -> Callable[[], None]:
        """What to do before each trial: end in time, and report now and then what there is."""
        deadline = self.budget.begin(item.nodeid) if self.budget is not None else None
        due = time.monotonic() + INTERIM

        def look() -> None:
            nonlocal due
            now = time.monotonic()
            if deadline is not None and now >= deadline and verification.trials >= LEAST:
                raise Spent
            if self.in_worker and now >= due:
                from frostproof.verification.item_report import item_report

                self._send_interim(item, item_report(verification))
                due = now + INTERIM

        return look

    @functools.cached_property
    def notes(self) -> Notes | None:
        """Where this worker notes its cases; None where nobody reads them: without workers, or on another machine."""
        if not self.in_worker:
            return None
        given = self.config.workerinput  # type: ignore[attr-defined]
        try:
            return Notes(Path(given["frostproof_notes"]) / given["workerid"])
        except OSError:
            return None

    def _noting(self, item: pytest.Item) -> Callable[[bytes], None]:
        """What to do with the case of each trial before it is run."""
        return (
            (lambda case: None)
            if self.notes is None
            else functools.partial(self.notes.write, item.nodeid)
        )

    def _send_interim(self, item: pytest.Item, found: ItemReport) -> None:
        """A report of what there is so far, which pytest takes for that of a set-up, and passes over."""
        carried = [(FINDING, encoded(found))]
        report = pytest.TestReport(
            item.nodeid, item.location, {}, "passed", None, "setup", user_properties=carried
        )
        self.config.hook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, pytest.TestReport]:
        """A violation in a few lines; with -v, in all that Hypothesis says of it."""
        report: pytest.TestReport = yield
        if (
            report.failed
            and call.when == "call"
            and call.excinfo is not None
            and is_ours(item)
            and self.config.get_verbosity() <= 0
        ):
            from frostproof.report.failure_text import is_violation, short

            verification = verification_of(item)
            if verification is not None and is_violation(call.excinfo.value):
                first, _, rest = short(verification, Path(self.run.cases), self.doubtful).partition(
                    "\n"
                )
                if first:
                    # Not one text: pytest repeats that in its summary, in CI all of it.
                    report.longrepr = first
                    report.sections.insert(0, ("the counterexample", rest))
        return report

    def _watch(self) -> None:
        """In a worker, end the process when an optimizer hangs: xdist then blames the item and starts another worker."""
        if self.in_worker and sys.__stderr__ is not None:
            import faulthandler

            faulthandler.dump_traceback_later(self.run.timeout, exit=True, file=sys.__stderr__)

    def _unwatch(self) -> None:
        if self.in_worker:
            import faulthandler

            faulthandler.cancel_dump_traceback_later()


def is_ours(item: pytest.Item) -> bool:
    return item.path.parent.name == PACKAGE


def verification_of(item: pytest.Item) -> Any:
    """What one of our tests verifies; None of a test that states a fact of torch."""
    return item.callspec.params.get("verification") if hasattr(item, "callspec") else None


def doubts(sent: ItemReport, raised: BaseException | None, strict: bool) -> list[InvariantRow]:
    """The doubtful rows for which an item fails; none where it fails for more than them."""
    found = [row for row in sent.row.invariants if row.status == "doubtful"]
    if raised is None:
        return [row for row in found if strict or row.severity != "cost"]
    return [] if _stands(raised, {row.id for row in found}) else found


def _stands(error: BaseException, doubtful: set[str]) -> bool:
    """Whether any part of what a test raised is more than a violation that its own script does not show."""
    from frostproof.invariants.registry import BY_ID

    if isinstance(error, BaseExceptionGroup):
        return any(_stands(each, doubtful) for each in error.exceptions)
    return type(error) not in {BY_ID[identity].violation for identity in doubtful}


def encoded(sent: ItemReport) -> str:
    """A finding on its way to the process that reports."""
    import msgspec

    return msgspec.json.encode(sent).decode()


def bare(row: SubjectRow) -> str:
    """The same of a row without any cases."""
    from frostproof.verification.item_report import ItemReport

    return encoded(ItemReport(row, {}))
