"""Trials and verdicts: findings in torch, rounding, crashes, and what is put back."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch

from frostproof.approaches.approach import Approaches
from frostproof.errors import ViolationError
from frostproof.invariants.buffers_hold_in_eval import CHANGED as BUFFER_CHANGED
from frostproof.invariants.invariant import Kind
from frostproof.invariants.pairs import PARTS
from frostproof.invariants.registry import BY_ID, INVARIANTS
from frostproof.invariants.tolerance import rounding
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.targets import resolve
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import Linear
from frostproof.spec.program import Step
from frostproof.training.bits import bits, fingerprint
from frostproof.trial.lockstep import run_trial
from frostproof.verification.item_report import item_report
from frostproof.verification.profiles import SEARCH
from frostproof.verification.search import search_violations
from frostproof.verification.verification import Verification
from tests.helpers.broken import (
    DecaysEverything,
    DecidedByTheLastDigit,
    ReadsMissingGradient,
    SeedsFromTheSystem,
    Sound,
)
from tests.helpers.search import search

CASE = Case(
    Architecture(Input((2,)), (Linear(2), Linear(1))),
    mask=("0.weight", "0.bias"),
    groups=(Group(("0.weight", "0.bias", "1.weight", "1.bias"), (("lr", 0.1),)),),
    program=(Step(), Step()),
    extras=("cleared", "second", "again"),
)


def test_bits_tell_what_equality_does_not() -> None:
    assert bits(torch.tensor(float("nan"))) == bits(torch.tensor(float("nan")))
    assert bits(torch.tensor(0.0)) != bits(torch.tensor(-0.0))
    assert bits(torch.arange(6.0).reshape(2, 3).T) == bits(
        torch.arange(6.0).reshape(2, 3).T.contiguous()
    )


class SomeNaN(Sound):
    """Diverges to a NaN, and to another one where more is handed to it."""

    def visit(
        self, index: int, group: dict[str, Any], position: int, parameter: torch.Tensor
    ) -> None:
        if parameter.grad is not None:
            parameter.copy_(
                torch.full_like(
                    parameter, 0x7FC00000 + len(group["params"]), dtype=torch.int32
                ).view(torch.float32)
            )


class NaNInOne(Sound):
    """Diverges to a NaN where more is handed to it."""

    def visit(
        self, index: int, group: dict[str, Any], position: int, parameter: torch.Tensor
    ) -> None:
        if parameter.grad is not None:
            parameter.mul_(float("nan") if len(group["params"]) > 2 else 1.0)


@pytest.mark.parametrize("kind", [PARTS["buffers"], BUFFER_CHANGED], ids=lambda kind: kind.id)
def test_scripts_compare_the_bits_of_buffers(kind: Kind) -> None:
    """One NaN is like another, 0.0 is unlike -0.0, and buffers may be integers."""
    nan, zero, count = torch.tensor([float("nan")]), torch.zeros(2), torch.tensor(3)
    condition = kind.condition.format(expected=0)
    for left, right, unlike in (
        (nan, nan.clone(), False),
        (zero, -zero, True),
        (count, count.clone(), False),
        (count, count + 1, True),
    ):
        names = {"torch": torch, "old": left, "new": right, "before": left, "after": right}
        assert eval(condition, names) == unlike


@pytest.mark.parametrize(("optimizer", "status"), [(SomeNaN, "held"), (NaNInOne, "violated")])
def test_one_nan_is_as_good_as_another(optimizer: type[Sound], status: str) -> None:
    subject = replace(subjects(optimizer)[0], dtypes=("float32",))
    outcome = run_trial(CASE, subject, "cpu", INVARIANTS, Approaches())
    assert BY_ID["trainable-updates-match"] in outcome.violated
    verification = Verification(subject, "cpu")
    with suppress(ViolationError), fenced("cpu"):
        verification.judge(CASE)
    assert item_report(verification).row.status == status


def test_rounding_is_measured_beside_what_is_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    one, other = 1.0, 1.0 + 2.0**-52

    def measured(left: list[float], right: list[float]) -> float | None:
        old, new = (bits(torch.tensor(each, dtype=torch.float64)) for each in (left, right))
        return rounding(old, new, "float64")

    assert measured([nan, inf, one], [nan, inf, other]) == measured([one], [other]) == 1.0
    assert measured([one, nan], [one, -nan]) == 0.0
    assert measured([one, nan], [one, one]) is None
    assert measured([inf, one], [one, one]) is None
    assert measured([inf, one], [inf, 2.0]) is None


def test_one_trial_is_judged_by_every_invariant_that_applies() -> None:
    outcome = run_trial(CASE, subjects(Sound)[0], "cpu", INVARIANTS, Approaches())
    judged = {invariant.id for invariant in outcome.judged}
    assert {
        "frozen-weights-unchanged",
        "trainable-updates-match",
        "no-grad-allocated",
        "gradients-pass-through",
    } <= judged
    assert {
        "stale-grads-harmless",
        "stale-grads-accumulate",
        "repeats-itself",
        "trainable-moves",
    } <= judged
    assert not outcome.violated


def test_a_violation_names_the_parameter_the_event_and_the_change() -> None:
    verification = Verification(subjects(DecaysEverything)[0], "cpu")
    verification.prepare()
    with pytest.raises(
        ViolationError,
        match=r"frozen-weights-unchanged: approach A moved a frozen parameter at event 0 .* "
        r"0\.weight\[\d\]: ",
    ) as error:
        verification.judge(CASE)
    assert type(error.value).__name__ == "FrozenWeightsUnchanged"


def test_a_crash_is_a_verdict_where_it_comes_from_freezing() -> None:
    verification = Verification(subjects(ReadsMissingGradient)[0], "cpu")
    verification.prepare()
    with pytest.raises(
        ViolationError,
        match=r"AttributeError.*with nothing frozen and every gradient there it does not raise",
    ):
        verification.judge(CASE)
    row = next(
        row for row in item_report(verification).row.invariants if row.id == "gradless-step-is-noop"
    )
    assert (row.status, row.severity) == ("violated", "crash")


def test_an_optimizer_that_does_not_repeat_itself_is_accused_of_that_alone() -> None:
    verification = Verification(subjects(SeedsFromTheSystem)[0], "cpu")
    search(verification, 0, "repeats-itself")
    assert {identity for identity, tally in verification.tallies.items() if tally.violated} == {
        "repeats-itself"
    }


@pytest.mark.parametrize("target", ["torch.optim:LBFGS"])
def test_rounding_is_reported_with_its_size_and_is_no_violation(target: str) -> None:
    for subject in resolve([target]):
        verification = Verification(subject, "cpu")
        search(verification, seed=0, examples=40)
        row = item_report(verification).row
        assert row.status == "held"
        assert row.facts["rounding-ulp"] >= 0
        assert verification.subject.dtypes == ("float64",)


def test_an_optimizer_that_makes_much_of_the_last_digit_is_not_accused() -> None:
    rounds = replace(
        subjects(DecidedByTheLastDigit)[0],
        rounding="sums otherwise where a gradient is missing",
        dtypes=("float64",),
    )
    apart = run_trial(CASE.replaced(dtype="float64"), rounds, "cpu", INVARIANTS, Approaches())
    assert BY_ID["trainable-updates-match"] in apart.violated
    verification = Verification(rounds, "cpu")
    search(verification, seed=0, examples=40)
    assert item_report(verification).row.status == "held"


@pytest.mark.parametrize(
    ("target", "variant", "invariant"),
    [
        ("torch.optim:Adagrad", "foreach", "no-state-for-frozen"),
        ("torch.optim:LBFGS", "default", "freeze-midway-holds"),
        ("torch.optim:SGD", "fused", "thaw-resumes"),
    ],
)
def test_known_findings_shrink_to_few_parameters_and_events(
    target: str, variant: str, invariant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "frostproof.verification.search.EXPECTED_SHRINKING", 120.0
    )  # a slow machine is no matter here
    subject = next(subject for subject in resolve([target]) if subject.variant == variant)
    sizes = []
    for seed in range(
        3
    ):  # Some end at a larger local minimum; benchmarks/shrinking.py counts them.
        verification = Verification(subject, "cpu", only_invariant=invariant)
        with fenced("cpu"):
            verification.prepare()
            (violation,) = search_violations(verification, SEARCH, seed)
        assert isinstance(violation, ViolationError)
        row = item_report(verification).row.invariants[0]
        assert (row.id, row.status) == (invariant, "expected")
        case = verification.tallies[invariant].case
        assert case is not None
        sizes.append((len(case.parameters), len(case.program)))
        if len(case.parameters) <= 2 and len(case.program) <= 3:
            return
    raise AssertionError(sizes)


def test_an_expected_failure_that_holds_after_all_is_a_failure() -> None:
    subject = replace(subjects(Sound)[0], expected_failures={"no-state-for-frozen": "was mended"})
    verification = Verification(subject, "cpu", only_invariant="no-state-for-frozen")
    search(verification, seed=0)
    row = item_report(verification).row
    assert row.status in ("held", "violated")
    assert "held in" in (row.invariants[0].message or "")
    assert row.invariants[0].status == "violated"


class Vandal(Sound):
    """Leaves the process in disorder."""

    def after(self) -> None:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(0)
        random.seed(0)


def test_what_an_optimizer_changes_in_the_process_is_put_back() -> None:
    def settings_of_the_process() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            bits(torch.get_rng_state()),
            random.getstate(),
        )

    before = settings_of_the_process()
    with fenced("cpu"):
        run_trial(CASE, subjects(Vandal)[0], "cpu", INVARIANTS, Approaches())
        torch.set_grad_enabled(False)
    assert settings_of_the_process() == before


def test_the_order_of_keys_is_not_a_difference() -> None:
    """A group that is added later may have its options in another order than the first ones."""
    added = {"lr": 0.1, "state": {"step": 1, "rate": torch.ones(1)}}
    first = {"state": {"rate": torch.ones(1), "step": 1}, "lr": 0.1}
    assert fingerprint(added) == fingerprint(first)
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 2, "b": 1})
