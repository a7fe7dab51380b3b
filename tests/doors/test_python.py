"""Verification from Python."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import frostproof
from frostproof.doors.python import Report
from frostproof.results.rows import SubjectRow
from frostproof.verification import profiles as profile
from frostproof.verification import search
from tests.helpers.broken import (
    ChoosesAmongFour,
    DecaysEverything,
    SeedsFromTheSystem,
    Sound,
    StateFromTheStart,
)
from tests.helpers.models import ResNet


def test_a_report_says_whether_everything_held() -> None:
    report = frostproof.check_optimizer(Sound, max_examples=30, devices=["cpu"], seed=0)
    assert report.ok
    assert report.rows[0].trials >= 30
    assert "tests.helpers.broken:Sound" in str(report)


def test_a_report_names_what_was_violated() -> None:
    report = frostproof.check_optimizer(DecaysEverything, max_examples=30, devices=["cpu"], seed=0)
    assert not report.ok
    assert "frozen-weights-unchanged" in {
        row.id for row in report.rows[0].invariants if row.status == "violated"
    }


def test_a_report_says_what_its_time_was_spent_on() -> None:
    report = frostproof.check_optimizer(
        DecaysEverything, max_examples=10, devices=["cpu"], seed=0, cases=None
    )
    assert [*report.rows[0].phases] == ["probe", "search", "shrink", "scripts"]
    assert all(seconds > 0 for seconds in report.rows[0].phases.values())
    assert "\nseconds: probe " in str(report)


def test_a_report_with_a_doubt_is_not_ok() -> None:
    row = SubjectRow("mylib:A", "default", "cpu", "1", "doubtful", None, 5, 5, 1.0, {}, [])
    assert not Report([row], 1.0).ok
    row.status = "held"
    assert Report([row], 1.0).ok


def test_shrinking_ends_in_time_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = {}
    for seconds in (30.0, 0.0):
        monkeypatch.setattr(search, "SHRINKING", seconds)
        row = frostproof.check_optimizer(
            DecaysEverything, max_examples=30, devices=["cpu"], seed=0
        ).rows[0]
        assert "frozen-weights-unchanged" in {
            each.id for each in row.invariants if each.status == "violated"
        }
        trials[seconds] = row.trials
    assert trials[0.0] < trials[30.0]


def test_nothing_is_drawn_once_the_time_for_shrinking_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "SHRINKING", 0.0)
    body, drawn = search._Shrinking.body, list[object]()

    def counted(shrinking: Any, case: Any) -> None:
        drawn.append(case)
        body(shrinking, case)

    monkeypatch.setattr(search._Shrinking, "body", counted)
    report = frostproof.check_optimizer(DecaysEverything, max_examples=30, devices=["cpu"], seed=0)
    violated = [each for each in report.rows[0].invariants if each.status == "violated"]
    assert violated
    assert len(drawn) <= 31 * len(violated)


def test_an_optimizer_that_never_does_the_same_is_reported_and_not_raised() -> None:
    report = frostproof.check_optimizer(
        SeedsFromTheSystem, max_examples=20, devices=["cpu"], seed=0
    )
    assert {row.id for row in report.rows[0].invariants if row.status == "violated"} == {
        "repeats-itself"
    }


@pytest.mark.parametrize("seed", range(4))
def test_what_two_random_runs_differ_in_is_explained_and_counted(seed: int) -> None:
    report = frostproof.check_optimizer(
        ChoosesAmongFour, max_examples=30, devices=["cpu"], seed=seed
    )
    rows = {row.id: row for row in report.rows[0].invariants}
    assert {row.id for row in rows.values() if row.status == "violated"} == {"repeats-itself"}
    assert rows["trainable-updates-match"].explained["does-not-repeat"]


def test_expected_failures_are_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        profile, "SEARCH", 30
    )  # a known failure that is there no more is looked for to the end
    reason = {"no-state-for-frozen": "allocates in __init__"}
    assert frostproof.check_optimizer(
        StateFromTheStart, max_examples=15, devices=["cpu"], expected_failures=reason, strict=True
    ).ok
    assert not frostproof.check_optimizer(
        StateFromTheStart, max_examples=15, devices=["cpu"], strict=True
    ).ok
    held = frostproof.check_optimizer(
        Sound,
        max_examples=15,
        devices=["cpu"],
        expected_failures={"frozen-weights-unchanged": "no reason"},
    )
    assert not held.ok
    stale = frostproof.check_optimizer(
        Sound, max_examples=15, devices=["cpu"], expected_failures=reason
    )
    assert not stale.ok
    assert "STALE tests.helpers.broken:Sound on cpu: no-state-for-frozen: expected" in str(stale)


def test_every_implementation_is_a_row() -> None:
    report = frostproof.check_optimizer(torch.optim.Rprop, max_examples=5, devices=["cpu"])
    assert {row.variant for row in report.rows} == {"forloop", "foreach", "differentiable"}
    assert report.ok


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"optimizer": int}, "not an optimizer"),
        ({"optimizer": Sound, "devices": ["cuda:77"]}, "absent"),
        ({"optimizer": Sound, "max_examples": 0}, "at least 1"),
        ({"optimizer": Sound, "max_examples": "5"}, "at least 1"),
        ({"optimizer": Sound, "devices": "cuda:77"}, "'cuda:77' is absent"),
        ({"optimizer": Sound, "settings": "eagre"}, "unknown setting 'eagre'"),
        ({"optimizer": Sound, "expected_failures": ["trainable-moves"]}, "are of type list"),
        ({"optimizer": Sound, "model": ResNet, "input": 8}, "input is of type int"),
        ({"optimizer": "mylib:Lion"}, "is a string: give the optimizer class itself"),
        (
            {
                "optimizer": frostproof.Subject(
                    "mylib:A", torch.optim.Adam, arguments={"capturable": True}
                )
            }
            | {"devices": ["cpu"]},
            "nothing to run, because this implementation is verified on accelerators only",
        ),
        (
            {"optimizer": Sound, "expected_failures": {"no-such-invariant": "because"}},
            "not an invariant",
        ),
        ({"optimizer": Sound, "expected_failures": {"trainable-moves": " "}}, "no reason"),
    ],
)
def test_wrong_usage_is_one_line(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(frostproof.UsageError, match=says) as error:
        frostproof.check_optimizer(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
