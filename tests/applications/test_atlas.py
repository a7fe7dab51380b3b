"""The atlas: two ways to freeze are equivalent, or differ for a cause that a script shows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.optim import SGD, Optimizer

from frostproof.applications.atlas.build import rerun_scripts
from frostproof.applications.atlas.cases import family_cases, trainable_families
from frostproof.applications.atlas.classes import way_classes, worst_verdicts
from frostproof.applications.atlas.comparison import (
    compare_trials,
    reproduce_difference,
    train_one_way,
)
from frostproof.applications.atlas.explore import RegionSearch, explore_optimizer
from frostproof.applications.atlas.families import FAMILIES
from frostproof.applications.atlas.record import Atlas
from frostproof.applications.atlas.summary import atlas_markdown, atlas_totals
from frostproof.applications.atlas.traits import TRAITS, observe_traits
from frostproof.approaches.approach import (
    AllOwned,
    Approach,
    Approaches,
    OptimizerSubset,
    Parameters,
    RequiresGrad,
)
from frostproof.approaches.others import (
    WAYS,
    BackwardInputs,
    Buffers,
    DetachedPrefix,
    Functional,
    GradientsDropped,
    InferencePrefix,
    NoGradPrefix,
    RequiresGradLate,
    WeightsRestored,
    ZeroingHook,
    ZeroRate,
)
from frostproof.counterexamples.script import script
from frostproof.errors import LostError
from frostproof.optimizers.probe import probe
from frostproof.optimizers.targets import resolve
from frostproof.process.fence import fenced
from frostproof.process.isolated_tasks import run_isolated
from frostproof.results import rows as results
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group, Value
from frostproof.spec.layers import BatchNorm1d, Linear, Tanh
from frostproof.spec.program import Clip, Program, Step
from frostproof.spec.subject import Subject
from tests.helpers.tasks import answered

NETWORK = Architecture(Input((2,)), (Linear(3), Tanh(), Linear(2), Linear(1)))
PREFIX = ("0.weight", "0.bias")
ALIKE: tuple[Approach, ...] = (
    RequiresGradLate(),
    NoGradPrefix(),
    DetachedPrefix(),
    Functional(),
    Buffers(),
    BackwardInputs(),
    GradientsDropped(),
    OptimizerSubset(),
    WeightsRestored(),
    ZeroRate(),
)
"""These train as A does if nothing reads the gradients of frozen parameters."""


STEPS: Program = (Step(), Step(micro_batches=2), Step(set_to_none=False))


def case(mask: tuple[str, ...] = PREFIX, program: Program = STEPS, **options: Value) -> Case:
    names = tuple(parameter.name for parameter in NETWORK.parameters)
    return Case(NETWORK, mask, (Group(names, tuple(options.items())),), program, batch=3, seed=5)


def subject(kind: type[Optimizer] = SGD, **arguments: Any) -> Subject:
    return Subject(
        target=f"torch.optim:{kind.__name__}", factory=kind, arguments={"lr": 0.1, **arguments}
    )


def compared(one: Approach, other: Approach, what: Case, optimizer: Subject) -> Any:
    with fenced("cpu", fused_attention=True):
        return compare_trials(*(train_one_way(what, optimizer, way, "cpu") for way in (one, other)))


def shown(
    one: Approach, other: Approach, what: Case, optimizer: Subject, folder: Path
) -> subprocess.CompletedProcess[str]:
    """The script that tells two ways apart, run with torch alone."""
    with fenced("cpu", fused_attention=True):
        text = script(
            reproduce_difference(what, optimizer, "cpu", one, other),
            optimizer,
            Approaches(a=one, b=other),
        )
    assert "frostproof" not in text
    path = folder / "shown.py"
    path.write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-I", str(path)], capture_output=True, text=True, timeout=120, check=False
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a script writes; torch may warn before."""
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("way", ALIKE, ids=lambda way: way.name)
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 0.1, "momentum": 0.9}], ids=["plain", "decay"]
)
def test_ways_that_train_alike_are_equivalent(way: Approach, options: dict[str, Any]) -> None:
    assert compared(RequiresGrad(), way, case(), subject(**options)) is None


@pytest.mark.parametrize(
    "way", [OptimizerSubset(), WeightsRestored(), ZeroRate()], ids=lambda way: way.name
)
def test_clipping_over_the_model_tells_what_leaves_gradients(way: Approach, tmp_path: Path) -> None:
    clipped = case(program=(Step(after_backward=(Clip("norm", "all", 0.01),)),))
    found = compared(RequiresGrad(), way, clipped, subject())
    assert found.cause == "clipping counts the gradients of frozen parameters"
    assert found.ulp is None
    assert "a trainable parameter differs at event 0" in found.message
    done = shown(RequiresGrad(), way, clipped, subject(), tmp_path)
    assert done.returncode == 1, done.stderr
    assert said(done).startswith(f"equivalent: A -> {way.name.replace('-', '_')} differ in ")


def test_zeros_for_a_gradient_move_what_is_frozen_under_decay(tmp_path: Path) -> None:
    assert compared(RequiresGrad(), ZeroingHook(), case(), subject()) is None
    decaying = subject(weight_decay=0.1)
    found = compared(RequiresGrad(), ZeroingHook(), case(), decaying)
    assert (
        found.cause == "hook-zeros moves frozen parameters: "
        "zeros count as a gradient, so decay or momentum moves them"
    )
    assert "a frozen parameter differs" in found.message
    assert shown(RequiresGrad(), ZeroingHook(), case(), decaying, tmp_path).returncode == 1


def test_an_inference_prefix_raises_and_a_script_shows_it(tmp_path: Path) -> None:
    found = compared(RequiresGrad(), InferencePrefix(), case(), subject())
    assert "Inference tensors cannot be saved for backward" in found.cause
    done = shown(RequiresGrad(), InferencePrefix(), case(), subject(), tmp_path)
    assert done.returncode == 1
    assert said(done).startswith(
        "equivalent: forward raised RuntimeError('Inference tensors cannot be saved for backward"
    )


def test_torch_func_cannot_update_the_statistics_of_a_norm() -> None:
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    normed = Case(
        Architecture(Input((2,)), (Linear(2), BatchNorm1d())),
        names[:2],
        (Group(names),),
        (Step(),),
        batch=3,
    )
    found = compared(RequiresGrad(), Functional(), normed, subject())
    assert "would mutate a captured Tensor" in found.cause
    assert compared(RequiresGrad(), Buffers(), normed, subject()) is None


def test_lbfgs_sees_everything_that_it_owns() -> None:
    """It scales its steps by all gradients that it owns, so restoring weights does not freeze."""
    optimizer = probe(resolve(["torch.optim:LBFGS"])[0], "cpu")
    closing = case(program=(Step(closure=True), Step(closure=True))).replaced(dtype="float64")
    found = compared(RequiresGrad(), WeightsRestored(), closing, optimizer)
    assert found.ulp is None
    assert found.cause == "the optimizer reads more than the gradients of trainable parameters"
    assert ZeroRate().unfit(closing, optimizer) == "the optimizer takes one parameter group"


@dataclass(frozen=True)
class Forgetful(AllOwned):
    """freezes all but the first of what it should."""

    name: str = "forgetful"

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        for p in frozen[1:]:
            p.requires_grad_(False)


def test_a_way_that_forgets_to_freeze_is_told(tmp_path: Path) -> None:
    found = compared(RequiresGrad(), Forgetful(), case(), subject())
    assert found.cause == "forgetful moves frozen parameters: the optimizer gets their gradients"
    done = shown(RequiresGrad(), Forgetful(), case(), subject(), tmp_path)
    assert done.returncode == 1, done.stderr


def test_a_prefix_freezes_whole_first_layers_alone() -> None:
    for mask in (("2.weight", "2.bias"), ("0.weight",), (*PREFIX, "3.bias")):
        assert (
            NoGradPrefix().unfit(case(mask), subject())
            == "it freezes nothing but whole layers before the first that trains"
        )
    assert NoGradPrefix().unfit(case(), subject()) == ""


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("target", ["SGD", "Muon", "SparseAdam"])
def test_in_every_case_something_is_frozen_and_something_trains(name: str, target: str) -> None:
    with fenced("cpu"):
        optimizer = probe(resolve([f"torch.optim:{target}"])[0], "cpu")
    if name not in trainable_families(optimizer):
        assert target != "SGD"
        return

    @settings(max_examples=60, database=None, derandomize=True)
    @given(family_cases(optimizer, name))
    def holds(drawn: Case) -> None:
        drawn.check()
        assert drawn.initially_frozen
        assert drawn.initially_trainable
        assert isinstance(drawn.architecture, Architecture)
        assert any(isinstance(layer, FAMILIES[name].marks) for layer in drawn.architecture.layers)
        if target == "SparseAdam":
            assert all(drawn.parameters[i].sparse for i in drawn.initially_trainable)
        if target == "Muon":
            assert all(len(drawn.parameters[i].shape) == 2 for i in drawn.initially_trainable)

    holds()


def test_families_are_those_that_an_optimizer_can_train() -> None:
    with fenced("cpu"):
        found = {
            name: trainable_families(probe(resolve([f"torch.optim:{name}"])[0], "cpu"))
            for name in ("AdamW", "Muon", "SparseAdam")
        }
    assert found == {
        "AdamW": list(FAMILIES),
        "Muon": ["linear", "embedding"],
        "SparseAdam": ["embedding"],
    }


@pytest.mark.parametrize("family", ["linear", "normalized"])
def test_every_difference_of_a_region_is_shown_by_its_script(family: str) -> None:
    cells = rerun_scripts(explore_optimizer(subject(torch.optim.AdamW), "cpu", 4, 0, (family,)))
    assert {cell.family for cell in cells} == {family}
    assert {frozenset((cell.left, cell.right)) for cell in cells} <= {
        frozenset((a.name, b.name)) for a in WAYS for b in WAYS if a != b
    }
    different = [cell for cell in cells if cell.verdict == "different"]
    assert different
    for cell in different:
        assert cell.doubt is None
        assert cell.script
        assert cell.case is not None
        assert cell.cause
    a_late = next(cell for cell in cells if (cell.left, cell.right) == ("A", "A-late"))
    assert (a_late.verdict, a_late.different) == ("equivalent", 0)
    assert a_late.compared >= 4


def test_the_smallest_case_is_kept() -> None:
    region = RegionSearch(
        subject(weight_decay=0.1), "linear", "cpu", (RequiresGrad(), ZeroingHook())
    )
    large, small = case(), case(program=(Step(),))
    for each in (large, small, large):
        assert region.survey(each) == {(0, 1)}
    tally = region.tallies[0, 1]
    assert (tally.compared, tally.different, tally.case) == (3, 3, small)


def test_traits_are_what_is_seen() -> None:
    found = {way.name: observe_traits(way) for way in WAYS}
    assert {name for name, seen in found.items() if seen["any"]} == {way.name for way in WAYS} - {
        "no-grad-prefix",
        "detach",
        "inference-prefix",
    }
    assert {name for name, seen in found.items() if seen.get("gradients")} == {
        "B",
        "B-second",
        "restore",
        "lr-zero",
        "hook-zeros",
    }
    assert {name for name, seen in found.items() if seen.get("decays")} == {"hook-zeros"}
    assert {name for name, seen in found.items() if not seen.get("listed", True)} == {"buffers"}
    assert all(seen["drifts"] for seen in found.values() if "raises" not in seen)
    assert {name for name, seen in found.items() if "raises" in seen} == {
        "inference-prefix",
        "func",
    }
    assert all(set(seen) <= {*TRAITS, "raises"} for seen in found.values())


def test_classes_are_of_what_was_never_seen_to_differ() -> None:
    seen = {
        frozenset("ab"): "equivalent",
        frozenset("ac"): "different",
        frozenset("bc"): "different",
        frozenset("cd"): "rounding",
    }
    assert way_classes("abcd", {**seen, frozenset("ad"): "different"}) == [["a", "b"], ["c", "d"]]  # type: ignore[dict-item]


def test_a_task_that_dies_costs_its_own_answer() -> None:
    wishes = ("one", "killed", "exits", "raises", "hangs", "two")
    answers = list(run_isolated(answered, [(wish,) for wish in wishes], 2, 4.0, "json"))
    assert (answers[0], answers[5]) == ("one", "two")
    assert [str(answer) for answer in answers[1:5]] == [
        "its process died with exit code -9",
        "SystemExit: enough",
        "ValueError: no such thing",
        "it took more than 4 s",
    ]
    assert all(isinstance(answer, LostError) for answer in answers[1:5])


def test_each_of_many_tasks_that_die_at_once_has_its_exit_code() -> None:
    answers = run_isolated(answered, [("killed",)] * 100, 8, 20.0, "json")
    assert {str(answer) for answer in answers} == {"its process died with exit code -9"}


def test_a_difference_that_no_script_shows_is_doubtful() -> None:
    cells = explore_optimizer(subject(torch.optim.AdamW), "cpu", 2, 0, ("linear",))
    cell = next(cell for cell in cells if cell.verdict == "different")
    fair, odd = rerun_scripts([cell, cell.replaced(script="# It shows nothing.\n")])
    assert (fair.verdict, fair.doubt) == ("different", None)
    assert (odd.verdict, odd.doubt) == ("doubtful", "it exits 0")
    found = worst_verdicts([fair, odd])
    assert found == {frozenset((cell.left, cell.right)): "different"}
    assert way_classes([cell.left, cell.right], worst_verdicts([odd])) == [
        [cell.left],
        [cell.right],
    ]
    atlas = Atlas(results.environment(["cpu"], "atlas", 0), [], [odd], [], 1.0)
    assert atlas_totals(atlas).endswith("0 pairs differ, and 1 are doubtful")
    assert atlas_totals(atlas) in " ".join(atlas_markdown(atlas).split())
