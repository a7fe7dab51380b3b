"""A search finds everything: a rare bug beside a common one, each shrunk by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from frostproof.errors import TimeSpentError
from frostproof.optimizers.discovery import subjects
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import Linear
from frostproof.spec.program import Step
from frostproof.verification.item_report import item_report
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification
from tests.helpers import broken_pairs
from tests.helpers.broken import (
    ChoosesWhereOneIsFrozen,
    DecaysEverything,
    Sound,
    StateFromTheStart,
)
from tests.helpers.broken_rarely import PutsBackTheFirst
from tests.helpers.search import search

PAIRS: dict[type[Optimizer], tuple[str, str]] = {
    broken_pairs.DecaysAndForgetsWhenAdding: ("frozen-weights-unchanged", "group-added-trains"),
    broken_pairs.DecaysAndTrainsInitialGroupsOnly: (
        "frozen-weights-unchanged",
        "group-added-trains",
    ),
    broken_pairs.DecaysAndHasStateInConstructorOnly: (
        "frozen-weights-unchanged",
        "group-added-trains",
    ),
    broken_pairs.DecaysAndLoadsInOrder: ("frozen-weights-unchanged", "checkpoint-resumes"),
    broken_pairs.DecaysAndScalesAddedGroup: ("frozen-weights-unchanged", "group-added-trains"),
    broken_pairs.ReturnsNothingAndSavesWhatTrains: ("closure-is-honoured", "checkpoint-resumes"),
    broken_pairs.ReturnsNothingAndNeverForgivesNone: ("closure-is-honoured", "thaw-resumes"),
    broken_pairs.ReturnsNothingAndTrainsWhatRequiredGradAtFirst: (
        "closure-is-honoured",
        "thaw-resumes",
    ),
}
"""Optimizer -> the invariants that its two bugs break, the common one first."""


@pytest.mark.parametrize("optimizer", PAIRS, ids=lambda optimizer: optimizer.__name__)
def test_both_of_two_bugs_are_named(optimizer: type[Optimizer]) -> None:
    missed: list[int] = []
    for seed in range(3):
        if seed - len(missed) == 2:
            break  # at most one of three seeds may miss any of them
        verification = Verification(subjects(optimizer)[0], "cpu")
        search(verification, seed, *PAIRS[optimizer])
        if any(verification.tallies[identity].case is None for identity in PAIRS[optimizer]):
            missed.append(seed)
    assert len(missed) <= 1, f"missed with seeds {missed}"


def test_each_of_two_bugs_is_shrunk_to_a_case_of_its_own() -> None:
    verification = Verification(subjects(broken_pairs.DecaysAndTrainsInitialGroupsOnly)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
        raised = {type(error).__name__ for error in search_violations(verification, 100, seed=0)}
    assert {"FrozenWeightsUnchanged", "GroupAddedTrains"} <= raised
    cases = [
        verification.tallies[identity].case
        for identity in ("frozen-weights-unchanged", "group-added-trains")
    ]
    assert all(case is not None and len(case.parameters) <= 4 for case in cases)
    assert cases[0] != cases[1]


def test_a_smallest_case_ends_where_it_shows_its_violation() -> None:
    verification = Verification(subjects(PutsBackTheFirst)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
        search_violations(verification, 100, seed=0)
    ends = [
        (tally.shown.breach.event, len(tally.case.program) - 1)
        for tally in verification.tallies.values()
        if tally.case is not None and tally.shown is not None
    ]
    assert ends
    assert all(shown_at == last for shown_at, last in ends)


def test_all_examples_are_tried_whatever_is_found() -> None:
    verification = Verification(subjects(broken_pairs.DecaysAndLoadsInOrder)[0], "cpu")
    search(verification, 0)
    assert verification.trials + verification.rejected_cases == 100


def test_an_expected_cost_leaves_everything_else_judged_as_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As far as the search goes: a cost that is not expected is shrunk, in more trials."""
    monkeypatch.setattr("frostproof.verification.search.reductions", lambda case, subject: iter(()))
    counts = []
    for expected in ({}, {"no-state-for-frozen": "allocates in __init__"}):
        (subject,) = subjects(StateFromTheStart, expected_failures=expected)
        verification = Verification(subject, "cpu")
        with fenced("cpu"):
            verification.prepare()
            search_violations(verification, 50, 3)
        counts.append({id: tally.judged for id, tally in verification.tallies.items()})
    without, stated = counts
    assert stated == without


@pytest.mark.parametrize("seed", range(4))
def test_a_cost_is_shrunk_and_fails_nothing(seed: int) -> None:
    verification = Verification(subjects(StateFromTheStart)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
        assert search_violations(verification, 40, seed) == []
    case = verification.tallies["no-state-for-frozen"].case
    assert case is not None
    assert len(case.architecture.places) == 1
    assert "no-state-for-frozen" in verification.shrunk


@pytest.mark.parametrize("seed", range(3))
def test_runs_that_differ_only_where_something_is_frozen_are_told_from_freezing(seed: int) -> None:
    verification = Verification(subjects(ChoosesWhereOneIsFrozen)[0], "cpu")
    with fenced("cpu"):
        verification.prepare()
        search_violations(verification, 30, seed=seed)
    row = item_report(verification).row
    assert {each.id for each in row.invariants if each.status == "violated"} == {"repeats-itself"}


@pytest.mark.parametrize("examples", [30, 1000], ids=["all-tried", "time-spent"])
def test_what_comparisons_of_random_runs_found_is_set_aside_however_a_search_ends(
    examples: int,
) -> None:
    """Before the search, runs that differ happen to be alike where the harness looks at that."""
    verification = Verification(subjects(ChoosesWhereOneIsFrozen)[0], "cpu")
    case = Case(
        Architecture(Input((2,)), (Linear(2),)),
        ("0.weight",),
        (Group(("0.weight", "0.bias"), (("lr", 0.1),)),),
        (Step(),),
    )

    def check_time() -> None:
        if verification.trials >= 30 and examples == 1000:
            raise TimeSpentError

    with fenced("cpu"):
        verification.prepare()
        while not verification.tallies["trainable-updates-match"].violated:
            verification.find_violations(case)
        verification.before_each_trial = check_time
        verification.trials = 0
        with suppress(TimeSpentError):
            search_violations(verification, examples, seed=0)
    row = item_report(verification).row
    rows = {each.id: each for each in row.invariants}
    assert {each.id for each in row.invariants if each.status == "violated"} == {"repeats-itself"}
    assert rows["trainable-updates-match"].explained["does-not-repeat"]
    (said,) = row.facts["not-tried"]
    assert said.startswith("comparisons were set aside, because two runs with one seed differ: ")
    assert "trainable-updates-match" in said


def search_until(verification: Verification, is_over: Callable[[], bool]) -> None:
    """Search until something is found while the time is over."""

    def check_time() -> None:
        if is_over() and verification.violations():
            raise TimeSpentError

    with fenced("cpu"):
        verification.prepare()
        verification.before_each_trial = check_time
        with pytest.raises(TimeSpentError):
            search_violations(verification, 1000, seed=3)


def test_what_was_found_is_shrunk_though_the_time_for_searching_is_over() -> None:
    verification = Verification(subjects(DecaysEverything)[0], "cpu")

    search_until(verification, lambda: verification.current_phase == "search")
    row = item_report(verification).row
    (moved,) = (each for each in row.invariants if each.id == "frozen-weights-unchanged")
    case = verification.tallies[moved.id].case
    assert case is not None
    assert isinstance(case.architecture, Architecture)
    assert len(case.architecture.layers) == 1
    assert "not shrunk" not in str(moved.message)


def test_a_case_that_there_was_no_time_to_shrink_is_told() -> None:
    verification = Verification(subjects(DecaysEverything)[0], "cpu")

    search_until(verification, lambda: True)
    row = item_report(verification).row
    told = [str(each.message) for each in row.invariants if each.status == "violated"]
    assert told
    assert all("; not shrunk to the end" in message for message in told)


class RaisesOrMoves(Sound):
    """What it does to a parameter without a gradient depends on how many parameters it has."""

    def step(self, closure: Any = None) -> Any:
        owned = [p for group in self.param_groups for p in group["params"]]
        missing = [p for p in owned if p.grad is None]
        if missing and len(owned) > 2:
            raise ValueError
        with torch.no_grad():
            for p in missing:
                p.add_(1.0)
        return super().step(closure)


def test_a_violation_is_no_crash_if_its_smallest_case_raises_nothing() -> None:
    (subject,) = subjects(RaisesOrMoves)
    verification = Verification(subject, "cpu")
    one = Architecture(Input((2,)), (Linear(2),))
    two = Architecture(Input((2,)), (Linear(2), Linear(2)))
    with fenced("cpu"):
        verification.prepare()
        for network in (two, one):
            names = tuple(each.name for each in network.parameters)
            case = Case(network, (), (Group(names, ()),), (Step(drop="first"),))
            verification.find_violations(case)
    rows = {row.id: row for row in item_report(verification).row.invariants}
    assert rows["gradless-step-is-noop"].violated == 2
    assert rows["gradless-step-is-noop"].severity == "wrong"
