"""What is drawn: it fits together, and reaches everything that it should, often enough."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import hypothesis
import pytest
from hypothesis import Phase, find, given, settings

from frostproof.generation import masks as mask
from frostproof.generation.cases import cases
from frostproof.generation.networks import DRAWN_MAX_LAYERS
from frostproof.generation.programs import EVENT_GENES, MENU
from frostproof.optimizers.targets import resolve
from frostproof.spec import layers
from frostproof.spec.architecture import Architecture
from frostproof.spec.case import Case
from frostproof.spec.layers import Checkpointed, Layer, Linear, ReLU, Residual, Sequential
from frostproof.spec.program import (
    AddFrozen,
    Clip,
    Eval,
    Freeze,
    LoadWeights,
    SaveLoad,
    Schedule,
    SetLr,
    Step,
    Train,
    mask_changes,
)
from frostproof.spec.subject import ParameterKind, Subject

SGD = resolve(["torch.optim:SGD"])[0]
DRAWS = 3000


def test_every_entry_of_the_menu_of_events_can_be_drawn() -> None:
    assert {gene * len(MENU) // EVENT_GENES for gene in range(EVENT_GENES)} == {*range(len(MENU))}


@cache
def drawn() -> list[Case]:
    seen: list[Case] = []

    @hypothesis.seed(0)
    @settings(
        max_examples=DRAWS,
        database=None,
        phases=(Phase.generate,),
        derandomize=False,
    )
    @given(cases(SGD))
    def draw(case: Case) -> None:
        seen.append(case)

    draw()
    return seen


def share(what: Iterable[bool]) -> float:
    return sum(what) / len(drawn())


def steps(case: Case) -> list[Step]:
    return [event for event in case.program if isinstance(event, Step)]


def clips(case: Case) -> list[Clip]:
    return [clip for event in steps(case) for clip in event.clips]


def freezes_before_run(case: Case) -> bool:
    """Whether an event freezes something that is still frozen in ten plain steps behind it."""
    runs = (case.program[i : i + 11] for i in range(len(case.program) - 10))
    return any(isinstance(first, Freeze) and {*run} == {Step()} for first, *run in runs)


def kinds_in(layers: Iterable[Layer]) -> set[str]:
    found = set()
    for layer in layers:
        found.add(type(layer).__name__)
        if isinstance(layer, (Sequential, Residual, Checkpointed)):
            found |= kinds_in(layer.layers)
    return found


LAYER_KINDS = [
    name
    for name, found in vars(layers).items()
    if isinstance(found, type)
    and issubclass(found, Layer)
    and found.__module__.startswith(layers.__name__)
]


@pytest.mark.parametrize(
    "kind", [name for name in LAYER_KINDS if name != "Layer" and not name.startswith("_")]
)
def test_every_layer_kind_is_drawn_in_at_least_2_percent_of_cases(kind: str) -> None:
    networks = (case.architecture for case in drawn())
    layers = (each.layers for each in networks if isinstance(each, Architecture))
    assert share(kind in kinds_in(each) for each in layers) >= 0.02


@pytest.mark.parametrize("kind", mask.KINDS)
def test_every_mask_kind_is_drawn_in_at_least_4_percent_of_cases(kind: str) -> None:
    """A kind counts if its pattern shows over layers or over parameters, for some drawn bits."""

    def shows(case: Case) -> bool:
        names = [parameter.name for parameter in case.parameters]
        frozen = [name in case.mask for name in names]
        return any(mask.KINDS[kind](len(names), bits) == frozen for bits in range(8))

    assert share(map(shows, drawn())) >= 0.04


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_dtype_is_drawn_in_at_least_15_percent_of_cases(dtype: str) -> None:
    assert share(case.dtype == dtype for case in drawn()) >= 0.15


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_to_three_groups_are_drawn_in_at_least_10_percent_of_cases_each(count: int) -> None:
    assert share(len(case.groups) == count for case in drawn()) >= 0.10


@pytest.mark.parametrize("events", [1, 2, 3, 4, 5, 6, 7])
def test_one_to_seven_events_are_drawn_in_at_least_5_percent_of_cases_each(events: int) -> None:
    assert share(len(case.program) == events for case in drawn()) >= 0.05


@pytest.mark.parametrize("depth", range(1, DRAWN_MAX_LAYERS + 1))
def test_every_depth_is_drawn_in_at_least_3_percent_of_cases(depth: int) -> None:
    assert share(len(case.architecture.places) == depth for case in drawn()) >= 0.03


@pytest.mark.parametrize(
    ("what", "least", "holds"),
    [
        ("something trains", 0.80, lambda case: bool(case.initially_trainable)),
        ("something is frozen", 0.70, lambda case: bool(case.initially_frozen)),
        ("everything is frozen", 0.03, lambda case: not case.initially_trainable),
        ("wide", 0.05, lambda case: any(size > 64 for p in case.parameters for size in p.shape)),
        ("a batch of one", 0.15, lambda case: case.batch == 1),
        ("the input requires grad", 0.10, lambda case: case.differentiable_input),
        (
            "an in-place ReLU",
            0.04,
            lambda case: any(
                isinstance(p.layer, ReLU) and p.layer.inplace for p in case.architecture.places
            ),
        ),
        (
            "a parameter without elements",
            0.01,
            lambda case: any(0 in parameter.shape for parameter in case.parameters),
        ),
        (
            "no bias",
            0.15,
            lambda case: any(
                isinstance(p.layer, Linear) and not p.layer.bias for p in case.architecture.places
            ),
        ),
        (
            "momentum",
            0.30,
            lambda case: any(dict(group.options).get("momentum") for group in case.groups),
        ),
        (
            "no momentum",
            0.30,
            lambda case: any(not dict(group.options).get("momentum") for group in case.groups),
        ),
        ("frozen midway", 0.40, lambda case: bool(case.frozen_midway)),
        ("frozen midway, with ten steps to follow", 0.03, freezes_before_run),
        ("thawed", 0.30, lambda case: bool(case.thawed)),
        (
            "thawed, never owned by B",
            0.20,
            lambda case: not set(case.initially_frozen).isdisjoint(case.thawed),
        ),
        (
            "frozen within a step",
            0.10,
            lambda case: any(isinstance(e, Step) and mask_changes(e) for e in case.program),
        ),
        ("weights are loaded", 0.03, lambda case: case.has(LoadWeights)),
        ("added while frozen", 0.05, lambda case: case.has(AddFrozen)),
        ("a checkpoint", 0.20, lambda case: case.has(SaveLoad)),
        ("a learning rate that changes", 0.10, lambda case: case.has(SetLr, Schedule)),
        ("a mode that changes", 0.10, lambda case: case.has(Train, Eval)),
        ("a closure", 0.20, lambda case: any(e.closure for e in steps(case))),
        ("accumulation", 0.15, lambda case: any(e.micro_batches > 1 for e in steps(case))),
        (
            "clipping of what is owned",
            0.10,
            lambda case: any(clip.over == "owned" for clip in clips(case)),
        ),
        (
            "clipping over the model",
            0.08,
            lambda case: any(clip.over == "all" for clip in clips(case)),
        ),
        ("autocast", 0.05, lambda case: any(e.amp == "autocast" for e in steps(case))),
        ("a GradScaler", 0.15, lambda case: any(e.scaled for e in steps(case))),
        ("B-rebuilt", 0.10, lambda case: "rebuilt" in case.extras),
        ("B-cleared", 0.20, lambda case: "cleared" in case.extras),
        ("B-second", 0.20, lambda case: "second" in case.extras),
    ],
)
def test_is_drawn_often_enough(what: str, least: float, holds) -> None:  # type: ignore[no-untyped-def]
    assert share(map(holds, drawn())) >= least, what


def test_what_is_drawn_fits_together_and_is_what_torch_builds() -> None:
    for case in drawn()[:300]:
        case.check()
        model = case.architecture.build("cpu", case.dtype)
        built = [(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]
        assert built == [(parameter.name, parameter.shape) for parameter in case.parameters]


def test_no_weight_starts_at_zero_or_one_where_a_stray_decay_would_not_show() -> None:
    for case in drawn()[:300]:
        model = case.architecture.build("cpu", "float32")
        assert all((p != 0).any() or not p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["up-to-2d", "matrices", "sparse"])
def test_a_subject_is_given_only_what_it_can_train(kind: ParameterKind) -> None:
    subject = Subject(target="x:Y", factory=None, parameters=kind)

    @settings(max_examples=200, database=None)
    @given(cases(subject))
    def check(case: Case) -> None:
        trained = [case.parameters[i] for i in case.initially_trainable]
        if kind == "sparse":
            assert all(parameter.sparse for parameter in trained)
        else:
            assert all(
                len(p.shape) == 2 if kind == "matrices" else len(p.shape) <= 2
                for p in case.parameters
            )

    check()


def test_a_subject_that_fails_on_parameters_without_elements_is_given_none() -> None:
    subject = Subject(target="x:Y", factory=None, unable=("zero-elements",))

    @settings(max_examples=500, database=None)
    @given(cases(subject))
    def check(case: Case) -> None:
        assert all(0 not in parameter.shape for parameter in case.parameters)

    check()


def test_the_simplest_case_is_one_small_layer_and_one_step() -> None:
    case = find(cases(SGD), lambda case: True, settings=settings(database=None))
    assert (
        len(case.architecture.places),
        len(case.program),
        case.mask,
        case.extras,
        case.dtype,
    ) == (1, 1, (), (), "float32")
