"""A breach that also happens with nothing frozen is explained away, and counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import Optimizer

from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.nothing_frozen import simplest
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import Linear
from frostproof.spec.program import AddFrozen, Eval, Freeze, Program, Schedule, Step
from frostproof.spec.subject import Subject
from frostproof.verification.attribution import EXPLANATIONS
from frostproof.verification.item_report import item_report
from frostproof.verification.verification import Verification
from tests.helpers import broken, broken_programs
from tests.helpers.protocols import Plain
from tests.helpers.search import flagged, search
from tests.trial.test_programs import FIRST, case_of


class Centralises(Plain):
    """Takes the mean of each row from its gradient: a matrix of one column never moves."""

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        if gradient.ndim > 1:
            gradient = gradient - gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
        super().update(group, parameter, gradient, scale)


class OneRate(Plain):
    """Refuses groups whose learning rates differ."""

    def step(self, closure: Any = None) -> Any:
        if len({group["lr"] for group in self.param_groups}) > 1:
            raise RuntimeError("different learning rates are not supported")
        return super().step(closure)


class CountsInState(Plain):
    """Keeps its number of steps in its state, under a name."""

    def step(self, closure: Any = None) -> Any:
        state: Any = self.state
        state["steps"] = state.get("steps", 0) + 1
        return super().step(closure)

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        state: Any = self.state
        parameter.add_(gradient, alpha=-group["lr"] / state["steps"] ** 0.5)


@pytest.mark.parametrize(
    "optimizer", [Centralises, OneRate, CountsInState], ids=lambda optimizer: optimizer.__name__
)
def test_what_is_not_freezings_doing_is_not_held_against_an_optimizer(
    optimizer: type[Optimizer],
) -> None:
    for seed in range(2):
        verification = Verification(subjects(optimizer)[0], "cpu", strict=True)
        search(verification, seed, examples=60)
        assert not flagged(verification)


class Overflows(Plain):
    """Makes weights infinite, and interpolates the others: infinity less infinity is NaN."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.fill_(-float("inf"))
                    else:
                        parameter.lerp_(parameter.clone(), 0.5)
        return loss


def test_a_frozen_weight_that_had_overflowed_is_explained_and_counted() -> None:
    verification = Verification(subjects(Overflows)[0], "cpu")
    with fenced("cpu"):
        found = verification.find_violations(case_of(Step(), Freeze(FIRST), Step()))
    assert not found
    assert verification.tallies["freeze-midway-holds"].explained == {"weights-overflowed": 1}


def test_groups_of_unlike_rates_are_refused_where_a_scheduler_made_them_unlike() -> None:
    verification = Verification(subjects(OneRate)[0], "cpu")
    case = case_of(Schedule("OneCycleLR"), Step(), AddFrozen(FIRST), Step(), mask=FIRST)
    with fenced("cpu"):
        verification.prepare()
        assert not verification.find_violations(case)
    assert verification.rejected_cases or any(t.explained for t in verification.tallies.values())


class ReadsWhatOnlyItsConstructorSets(Plain):
    """As wrappers do: groups that are added later lack an option."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        for group in self.param_groups:
            group["extra"] = 1.0

    def step(self, closure: Any = None) -> Any:
        if not all(group["extra"] for group in self.param_groups):
            raise ValueError
        return super().step(closure)


def test_a_crash_after_a_group_was_added_is_not_blamed_on_missing_gradients() -> None:
    verification = Verification(subjects(ReadsWhatOnlyItsConstructorSets)[0], "cpu")
    case = case_of(Step(), AddFrozen(FIRST), Step(), mask=FIRST)
    with fenced("cpu"):
        verification.prepare()
        found = verification.find_violations(case)
    assert [each.id for each in found] == ["group-added-trains"]


class SwapsWithItsState(broken_programs.Heavy):
    """In eval mode, weights and a part of the state are exchanged, and back in train mode."""

    training = True

    def train(self, mode: bool = True) -> None:
        if mode != self.training:
            self.training = mode
            for state in self.state.values():
                if "buffer" in state:
                    state["buffer"].mul_(2.0 if mode else 0.5)

    def eval(self) -> None:
        self.train(False)


@pytest.mark.parametrize(
    "program",
    [
        (Step(), Eval(), Step(after_forward=(Freeze(FIRST),))),
        (Step(), Freeze(FIRST), Eval(), Step()),
    ],
    ids=["before the freeze", "after the freeze"],
)
def test_a_mode_that_changes_state_is_not_the_freezes_doing(program: Program) -> None:
    verification = Verification(subjects(SwapsWithItsState)[0], "cpu")
    case = case_of(*program)
    with fenced("cpu"):
        verification.prepare()
        assert not verification.find_violations(case)


def test_what_is_explained_away_is_counted_in_the_row() -> None:
    subject = subjects(Centralises)[0]
    for seed in range(16):
        verification = Verification(subject, "cpu")
        search(verification, seed, examples=50)
        rows = item_report(verification).row.invariants
        if any("does-not-move-without-freezing" in row.explained for row in rows):
            return
    raise AssertionError("no search had to explain it")


class PlacesAndDecays(broken.RateByPosition):
    """From its third step on it decays everything."""

    steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        for group in self.param_groups if self.steps > 2 else ():
            for parameter in group["params"]:
                parameter.mul_(0.9)
        return super().step(closure)


def test_what_was_explained_away_hides_nothing_that_comes_after_it() -> None:
    known = {"repeats-itself": "so that the test has an explanation"}
    stated = subjects(PlacesAndDecays, expected_failures=known)
    verification = Verification(stated[0], "cpu")
    architecture = Architecture(Input((2,)), (Linear(3), Linear(2)))
    names = tuple(parameter.name for parameter in architecture.parameters)
    program = (Step(), Step(), Step())
    with fenced("cpu"):
        verification.prepare()
        groups = (Group(names, simplest(verification.subject)),)
        case = Case(architecture, names[:1], groups, program, "float32", batch=2, seed=0)
        found = verification.find_violations(case)
    assert "frozen-weights-unchanged" in {each.id for each in found}
    updates = verification.tallies["trainable-updates-match"]
    assert updates.explained == {"known-not-to-repeat": 1}


def test_positional_subjects_are_compared_where_their_lists_are_alike_alone() -> None:
    def judged(mask: tuple[str, ...], **fields: Any) -> Verification:
        verification = Verification(subjects(broken.RateByPosition, **fields)[0], "cpu")
        with fenced("cpu"):
            verification.prepare()
            verification.find_violations(case_of(Step(), Step(), mask=mask))
        return verification

    assert judged(FIRST).tallies["trainable-updates-match"].violated
    reason = "each place has a rate of its own"
    positional = judged(FIRST, positional=reason)
    assert not positional.tallies["trainable-updates-match"].judged
    assert positional.divergence_counts["positional-by-design"] == 1
    assert judged((), positional=reason).tallies["trainable-updates-match"].judged


class CountsInAttribute(Plain):
    """From its third step on it steps twice as far. A checkpoint does not have its count."""

    steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        for group in self.param_groups if self.steps > 2 else ():
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(2)
        return super().step(closure)


def test_a_checkpoint_that_resumes_otherwise_is_violated_with_nothing_frozen_too() -> None:
    verification = Verification(subjects(CountsInAttribute)[0], "cpu")
    search(verification, 0, "checkpoint-resumes")
    found = verification.tallies["checkpoint-resumes"]
    assert found.violated
    assert not found.explained
    assert "SaveLoad" not in verification.subject.unable


def test_each_explanation_has_an_id_and_a_sentence() -> None:
    assert len({each.id for each in EXPLANATIONS}) == len(EXPLANATIONS)
    assert all(each.sentence.endswith(".") for each in EXPLANATIONS)
    documented = (Path(__file__).parents[2] / "docs/programs.md").read_text()
    assert all(f"| {each.id} |" in documented for each in EXPLANATIONS)


@pytest.mark.parametrize(
    ("optimizer", "invariant", "violation_class"),
    [
        (broken.DecaysEverything, "frozen-weights-unchanged", "freezing"),
        (broken.RateByPosition, "trainable-updates-match", "groups"),
        (broken.SeedsFromTheSystem, "repeats-itself", "randomness"),
        (broken.ReturnsNothing, "closure-is-honoured", "closure"),
        (broken.StateFromTheStart, "no-state-for-frozen", "cost"),
        (broken_programs.LoadsInOrder, "checkpoint-resumes", "checkpoint"),
    ],
)
def test_the_row_says_the_class_of_the_violation(
    optimizer: Any, invariant: str, violation_class: str
) -> None:
    verification = Verification(subjects(optimizer)[0], "cpu")
    search(verification, 0, invariant)
    rows = {each.id: each for each in item_report(verification).row.invariants}
    row = rows[invariant]
    assert (row.status, row.violation_class) == ("violated", violation_class)
    assert rows["flags-untouched"].violation_class is None


def test_what_raises_with_nothing_frozen_too_is_told_with_its_hyperparameters() -> None:
    class Warms(Plain):
        def __init__(self, params: Any, lr: float = 0.1, warmup: int = 1) -> None:
            super().__init__(params, lr)
            self.warmup = warmup

        def step(self, closure: Any = None) -> Any:
            1 / self.warmup
            return super().step(closure)

    drawn = st.fixed_dictionaries({"lr": st.just(0.1), "warmup": st.sampled_from([1, 0])})
    verification = Verification(Subject("mylib:Warms", Warms, space=drawn, groups=False), "cpu")
    search(verification, 0, examples=12)
    row = item_report(verification).row
    assert row.status == "held"
    assert row.facts["raises"] == ["ZeroDivisionError: division by zero, with lr=0.1, warmup=0"]


class AddsNoiseInHooks(broken.Sound):
    """Adds noise to each gradient, in hooks on its parameters, that no seed repeats."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.register_hook(lambda gradient: gradient * (1 + os.urandom(1)[0]))


def test_noise_in_hooks_of_the_optimizer_is_no_kernels_doing() -> None:
    verification = Verification(subjects(AddsNoiseInHooks)[0], "cpu")
    search(verification, 0, "repeats-itself")
    assert verification.tallies["repeats-itself"].violated
    assert not verification.tallies["repeats-itself"].explained
