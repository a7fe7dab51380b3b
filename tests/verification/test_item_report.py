"""From what was counted to what is said of it, without running anything."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from frostproof.invariants.registry import BY_ID
from frostproof.results.rows import InvariantRow, RowStatus
from frostproof.verification.item_report import add_reproduction, invariant_row, subject_status

INVARIANT = BY_ID["thaw-resumes"]


def script_said(text: str | None, doubtful: bool, said: str) -> Any:
    return SimpleNamespace(text=text, doubtful=doubtful, said=said)


def tally(judged: int = 5, violated: int = 0, explained: dict[str, int] | None = None) -> Any:
    return SimpleNamespace(
        judged=judged,
        violated=violated,
        message="moved" if violated else "",
        explained=explained or {},
    )


def row(**options: Any) -> InvariantRow:
    counted = options.pop("tally", tally(violated=1))
    return invariant_row(INVARIANT, counted, "wrong", **options)


def test_it_needs_no_torch() -> None:
    code = "import sys, frostproof.verification.item_report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("counted", "options", "status", "message"),
    [
        (tally(), {}, "held", None),
        (tally(0), {}, "unreached", None),
        (tally(violated=2), {}, "violated", "moved"),
        (tally(violated=2), {"expected": "by design"}, "expected", "expected: by design; moved"),
        (tally(), {"expected": "by design"}, "held", None),
        (
            tally(),
            {"expected": "by design", "searched_alone": True},
            "violated",
            "expected to fail (by design), but held in 5 trials: drop the",
        ),
        (
            tally(),
            {"expected": "by design", "searched_alone": True, "cut_short": "interrupted"},
            "unreached",
            "expected to fail (by design), but not seen in 5 trials, after which its search ended:",
        ),
        (
            tally(16),
            {"expected": "by design", "searched_alone": True, "trials": 1300},
            "unreached",
            "expected to fail (by design), but not seen in the 16 of 1300 trials that could judge",
        ),
        (
            tally(60),
            {"expected": "by design", "searched_alone": True, "trials": 1300},
            "violated",
            "expected to fail (by design), but held in 60 trials: drop the",
        ),
        (
            tally(0),
            {"expected": "by design", "searched_alone": True},
            "unreached",
            "expected to fail (by design), but no trial could judge it: ",
        ),
    ],
)
def test_what_was_counted_has_a_status(
    counted: Any, options: dict[str, Any], status: RowStatus, message: str | None
) -> None:
    found = row(tally=counted, **options)
    assert (found.status, found.judged, found.violated) == (
        status,
        counted.judged,
        counted.violated,
    )
    assert found.message == message or (message and str(found.message).startswith(message))


@pytest.mark.parametrize("expected", [None, "by design"])
def test_what_its_script_did_not_show_is_doubtful_and_says_so_in_one_line(
    expected: str | None,
) -> None:
    found = add_reproduction(
        row(expected=expected), script_said("import torch", True, "it exits 0")
    )
    message = str(found.message)
    assert found.status == "doubtful"
    assert "\n" not in message
    assert all(
        words in message
        for words in (
            "moved",
            "it exits 0",
            "the fault may be frostproof's",
            "open an issue with the case file",
        )
    )


def test_what_its_script_shows_stays_as_it_is() -> None:
    found = add_reproduction(row(), script_said("import torch", False, "it exits 1"))
    assert (found.status, found.message) == ("violated", "moved")


@pytest.mark.parametrize(("expected", "status"), [(None, "violated"), ("by design", "expected")])
def test_without_any_script_a_violation_stays_with_a_note(
    expected: str | None, status: RowStatus
) -> None:
    found = add_reproduction(
        row(expected=expected), script_said(None, False, "a closure of its own")
    )
    assert found.status == status
    assert str(found.message).endswith("moved (no standalone script: a closure of its own)")


def test_what_explained_differences_is_kept() -> None:
    assert row(tally=tally(explained={"rounding": 3})).explained == {"rounding": 3}
    assert row(tally=tally()).explained == {}


def rows(*each: tuple[RowStatus, str]) -> list[InvariantRow]:
    counts = {"violated": 1, "doubtful": 1, "expected": 1}
    return [
        InvariantRow("thaw-resumes", status, severity, 5, counts.get(status, 0))
        for status, severity in each
    ]


@pytest.mark.parametrize(
    ("found", "strict", "status"),
    [
        (rows(("held", "wrong"), ("expected", "wrong"), ("unreached", "wrong")), False, "held"),
        (rows(("doubtful", "wrong"), ("held", "wrong")), False, "doubtful"),
        (rows(("doubtful", "wrong"), ("violated", "crash")), False, "violated"),
        (rows(("violated", "cost"), ("doubtful", "wrong")), False, "doubtful"),
        (rows(("doubtful", "cost"), ("violated", "cost")), False, "held"),
        (rows(("doubtful", "cost")), True, "doubtful"),
        (rows(("violated", "cost")), True, "violated"),
        ([InvariantRow("cost-bounded", "violated", "cost", 5, 0)], False, "violated"),
    ],
)
def test_the_status_of_a_subject_is_its_worst(
    found: list[InvariantRow], strict: bool, status: str
) -> None:
    assert subject_status(found, None, strict=strict) == status
    assert subject_status(found, "no case could be judged", strict=strict) == "unusable"
