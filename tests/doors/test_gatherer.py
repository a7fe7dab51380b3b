"""The gatherer keeps the best counterexample of each violation, in whatever order they arrive."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.gatherer import Gatherer, failing_cases
from frostproof.doors.pytest_plugin.report_properties import FINDING, encode
from frostproof.results.rows import RowStatus
from frostproof.spec import casefile
from frostproof.spec.casefile import load_case
from frostproof.verification.item_report import ItemReport
from tests.doors.test_nights import row

CASE = load_case(Path(__file__).parents[1] / "spec" / "cases" / "version-1.json").case


@pytest.fixture
def gatherer(tmp_path: Path) -> Gatherer:
    run: Any = SimpleNamespace(cases=str(tmp_path), way=None)
    return Gatherer(run)


def report(when: Any, status: RowStatus, script: str | None, size: int = 5) -> pytest.TestReport:
    scripts = {"thaw-resumes": script} if script is not None else {}
    finding = ItemReport(row(status), {"thaw-resumes": CASE}, scripts, {"thaw-resumes": (size,)})
    properties = [(FINDING, encode(finding))]
    location = ("test_optimizers.py", None, "")
    return pytest.TestReport("node", location, {}, "passed", None, when, user_properties=properties)


def script(gatherer: Gatherer) -> str:
    ((found,),) = [each.invariants for each in gatherer.merge()]
    assert Path(str(found.case)).is_file()
    return Path(str(found.reproducer)).read_text()


@pytest.mark.parametrize("status", ["violated", "doubtful"])
def test_a_finding_replaces_what_was_known_before_its_script_was_run(
    gatherer: Gatherer, status: RowStatus
) -> None:
    gatherer.receive(report("setup", "violated", None))
    gatherer.receive(report("call", status, "# the script"))
    assert script(gatherer) == "# the script"
    assert [each.status for each in gatherer.merge()] == [status]


def test_a_script_that_shows_the_violation_comes_before_a_smaller_doubt(gatherer: Gatherer) -> None:
    gatherer.receive(report("call", "doubtful", "# a doubt", 1))
    gatherer.receive(report("call", "violated", "# shows it", 9))
    gatherer.receive(report("call", "violated", "# is smaller", 3))
    gatherer.receive(report("call", "violated", "# is larger", 4))
    assert script(gatherer) == "# is smaller"


def test_a_signal_loses_nothing_of_a_finding_that_is_being_taken_in(
    gatherer: Gatherer, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = casefile.save

    def interrupted(*arguments: Any) -> Any:
        saved = save(*arguments)
        signal.raise_signal(signal.SIGINT)
        return saved

    monkeypatch.setattr(casefile, "save", interrupted)
    # A shell starts what it runs in the background with SIGINT ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            gatherer.receive(report("setup", "violated", "# the script"))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert script(gatherer) == "# the script"


def test_the_first_case_of_each_optimizer_comes_before_the_others() -> None:
    one, other, held = row("violated"), row("violated"), row("held")
    one.invariants += copy.deepcopy(one.invariants)
    one.invariants[1].id = "frozen-weights-unchanged"
    for name, subject in (("one", one), ("other", other), ("held", held)):
        for each in subject.invariants:
            each.case = f"{name}-{each.id}.json"
    assert [*failing_cases([one, held, other], strict=False)] == [
        "one-frozen-weights-unchanged.json",
        "other-thaw-resumes.json",
        "one-thaw-resumes.json",
    ]
    other.case = "other-crashed.json"
    assert next(failing_cases([other, one], strict=False)) == "other-crashed.json"
