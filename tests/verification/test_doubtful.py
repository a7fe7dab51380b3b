"""What was seen in a trial and is not shown by its script, beside what fails for another reason."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.gatherer import Gatherer
from frostproof.doors.pytest_plugin.item_runner import failing_doubts
from frostproof.doors.pytest_plugin.report_properties import FINDING, encode
from frostproof.invariants.registry import BY_ID
from frostproof.report.failure_text import failure_line
from frostproof.report.terminal import LEGEND
from frostproof.verification.item_report import ItemReport, doubt_message
from tests.doors.test_nights import row
from tests.helpers import consumer
from tests.helpers.consumer import SHY, run
from tests.helpers.made_up import example
from tests.helpers.warm import frostproof, python_m_pytest

THAW, JOIN = BY_ID["thaw-resumes"], BY_ID["group-added-trains"]
DOUBT, OTHER = THAW.broken("m", "here"), JOIN.broken("stuck", "here")


def check(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return consumer.check(project, "--max-examples", "20", "--seed", "0", "--jobs", "0", *arguments)


OWN = """
import frostproof
import mylib

OPTIONS = {"devices": ["cpu"], "max_examples": 20, "seed": 0}

@frostproof.parametrize(mylib.Shy, **OPTIONS)
def test_decorated(check):
    check()

def test_python():
    report = frostproof.check_optimizer(mylib.Shy, **OPTIONS)
    assert not report.ok
    assert report.rows[0].status == "doubtful"
    assert not any(each.status == "violated" for each in report.rows[0].invariants)
"""


def test_a_divergence_between_run_and_script_fails_at_every_door(tmp_path: Path) -> None:
    """Through pytest, the decorator, Python and replay; tests/doors/test_nights.py: the command."""
    (tmp_path / "mylib.py").write_text(SHY)
    (tmp_path / "test_own.py").write_text(OWN)
    names = {"optimizer": "mylib:Shy", "device": "cpu", "max-examples": "20", "seed": "0"}
    given = [f"--frostproof-{name}={value}" for name, value in names.items()]
    suite = ["-n0", "-q", "-rA", "--pyargs", "frostproof_properties", "test_own.py"]
    done = run(tmp_path, python_m_pytest(*suite, *given, "--frostproof-json=out.json"))
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "PASSED"))]
    assert [line for line in outcomes if line.startswith("PASSED") and "test_python" in line]
    for door in ("test_optimizer[mylib:Shy", "test_decorated[Shy@cpu-sound]"):
        assert [line for line in outcomes if line.startswith("FAILED") and door in line], outcomes
    assert "mylib:Shy on cpu: closure-is-honoured is doubtful" in done.stdout
    (row,) = json.loads((tmp_path / "out.json").read_text())["subjects"]
    assert row["status"] == "doubtful"
    saved = next(each["case"] for each in row["invariants"] if each["status"] == "doubtful")
    again = run(tmp_path, frostproof("replay", saved))
    assert (again.returncode, again.stdout.split(" ")[0]) == (4, "DOUBTFUL"), again.stderr


def test_a_test_that_fails_otherwise_is_worse_than_a_doubt(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(SHY)
    for outcome, code in (("False", 1), ("True", 4)):
        (tmp_path / "test_own.py").write_text(f"def test_own():\n    assert {outcome}\n")
        done = check(tmp_path, "mylib:Shy", "--", "test_own.py")
        assert done.returncode == code, done.stdout + done.stderr
    assert "DOUBTFUL mylib:Shy on cpu: closure-is-honoured" in done.stdout
    assert "FAILURES" not in done.stdout
    assert re.search(r"^1 passed, .*1 doubtful in ", done.stdout, re.M)
    assert done.stdout.splitlines()[-1].startswith("frostproof replay frostproof-cases")


@pytest.mark.parametrize(
    ("raised", "severity", "strict", "fails"),
    [
        (DOUBT, "wrong", False, True),
        (
            DOUBT,
            "cost",
            False,
            True,
        ),  # a search for an expected failure, which raises whatever it costs
        (OTHER, "wrong", False, False),
        (ExceptionGroup("", [DOUBT, OTHER]), "wrong", False, False),
        (ExceptionGroup("", [DOUBT, RuntimeError("a fault of ours")]), "wrong", False, False),
        (RuntimeError("a fault of ours"), "wrong", False, False),
        (None, "wrong", False, True),
        (None, "cost", False, False),
        (None, "cost", True, True),
    ],
)
def test_an_item_fails_for_its_doubts_where_nothing_else_is_raised(
    raised: BaseException | None, severity: str, strict: bool, fails: bool
) -> None:
    sent = ItemReport(row("doubtful", severity=severity), {})
    assert [each.id for each in failing_doubts(sent, raised, strict)] == (
        ["thaw-resumes"] if fails else []
    )
    assert not failing_doubts(ItemReport(row("held"), {}), raised, strict)


def test_an_item_that_has_ended_counts_for_more_than_what_it_sent_before(tmp_path: Path) -> None:
    """Before its script is run, a violation is not known to be doubtful, and may be as small."""
    run: Any = SimpleNamespace(cases=str(tmp_path), strict=False, way=None)
    gatherer = Gatherer(run)
    sent: list[tuple[Any, str, dict[str, str]]] = [
        ("setup", "violated", {}),
        ("call", "doubtful", {THAW.id: "1"}),
    ]
    for when, status, scripts in sent:
        sizes: dict[str, tuple[int, ...]] = {THAW.id: example(0).size}
        found = ItemReport(row(status), {THAW.id: example(0)}, scripts, sizes)
        properties = [(FINDING, encode(found))]
        gatherer.receive(
            pytest.TestReport(
                "item", ("", 0, ""), {}, "passed", None, when, user_properties=properties
            )
        )
    (merged,) = gatherer.merge()
    (each,) = merged.invariants
    assert each.status == "doubtful"
    assert Path(str(each.reproducer)).read_text() == "1"


def test_doubts_are_told_in_one_line() -> None:
    (doubt,) = row("doubtful").invariants
    doubt.message = "moved\nit exits 0"
    assert doubt_message([doubt]) == "thaw-resumes is doubtful: moved it exits 0"
    assert (
        doubt_message([doubt, doubt])
        == "thaw-resumes is doubtful: moved it exits 0; doubtful too: thaw-resumes"
    )


def test_a_failure_in_short_is_of_what_its_script_shows() -> None:
    tallies = {
        each.id: SimpleNamespace(violated=1, message=f"{each.id} is broken", source="", case=None)
        for each in (THAW, JOIN)
    }
    verification: Any = SimpleNamespace(
        invariants=(THAW, JOIN), tallies=tallies, fails=lambda invariant: True
    )
    assert failure_line(verification).startswith(f"{JOIN.id}: {JOIN.id} is broken; also")
    line = failure_line(verification, {JOIN.id})
    assert line == f"{THAW.id}: {THAW.id} is broken; also violated: {JOIN.id} (doubtful)"


def test_the_legend_fits_a_terminal() -> None:
    assert max(map(len, LEGEND)) <= 76
