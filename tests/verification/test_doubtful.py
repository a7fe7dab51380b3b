"""What was seen in a trial and is not shown by its script, beside what fails for another reason."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.item_runner import doubts
from frostproof.invariants.registry import BY_ID
from frostproof.report.failure_text import short
from frostproof.report.terminal import LEGEND
from frostproof.verification.item_report import ItemReport, doubt_message
from tests.doors.test_nights import row
from tests.helpers import consumer
from tests.helpers.consumer import PLAIN

SHY = f"""
import sys
{PLAIN}

class Shy(Leaky):
    # Leaks where it is looked at, and not in a script.
    def step(self, closure=None):
        return super().step(closure) if "frostproof" in sys.modules else Plain.step(self, closure)
"""

THAW, JOIN = BY_ID["thaw-resumes"], BY_ID["group-added-trains"]
DOUBT, OTHER = THAW.broken("m", "here"), JOIN.broken("stuck", "here")


def check(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return consumer.check(project, "--max-examples", "20", "--seed", "0", "--jobs", "0", *arguments)


def test_a_test_that_fails_otherwise_is_worse_than_a_doubt(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text(SHY)
    for outcome, code in (("False", 1), ("True", 4)):
        (tmp_path / "test_own.py").write_text(f"def test_own():\n    assert {outcome}\n")
        done = check(tmp_path, "mylib:Shy", "--", "test_own.py")
        assert done.returncode == code, done.stdout + done.stderr
    failures = done.stdout.partition("= FAILURES =")[2].partition("= frostproof =")[0]
    assert "frozen-weights-unchanged is doubtful: approach " in failures
    assert "Traceback" not in failures
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
        (None, "wrong", False, True),  # an expected failure on meta, where nothing looks for it
        (None, "cost", False, False),
        (None, "cost", True, True),
    ],
)
def test_an_item_fails_for_its_doubts_where_nothing_else_is_raised(
    raised: BaseException | None, severity: str, strict: bool, fails: bool
) -> None:
    sent = ItemReport(row("doubtful", severity=severity), {})
    assert [each.id for each in doubts(sent, raised, strict)] == (["thaw-resumes"] if fails else [])
    assert not doubts(ItemReport(row("held"), {}), raised, strict)


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
        each.id: SimpleNamespace(violated=1, message=f"{each.id} is broken", case=None)
        for each in (THAW, JOIN)
    }
    verification: Any = SimpleNamespace(
        invariants=(THAW, JOIN), tallies=tallies, fails=lambda invariant: True
    )
    assert short(verification, Path()).splitlines()[0] == f"{THAW.id}: {THAW.statement}"
    lines = short(verification, Path(), {THAW.id}).splitlines()
    assert lines[0] == f"{JOIN.id}: {JOIN.statement}"
    assert lines[-1] == f"  it breaks too: {THAW.id} (doubtful)"


def test_the_legend_fits_a_terminal() -> None:
    assert max(map(len, LEGEND)) <= 76
