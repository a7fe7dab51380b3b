"""Counted costs agree with closed forms, with counts by hand, and with torch's own counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from frostproof.applications.costs.chart import backward_products_a, backward_products_b
from frostproof.applications.costs.counting import count_costs
from frostproof.applications.costs.explaining import layer_costs
from frostproof.applications.costs.recommending import (
    cheapest_way,
    cost_remarks,
    estimate_ways,
    forward_remark,
)
from frostproof.applications.costs.task import mean_square_loss
from frostproof.applications.costs.ways import MODEL_WAYS, A, B
from frostproof.approaches.approach import Approaches
from frostproof.invariants import cost_bounded
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case, Group
from frostproof.spec.layers import GRU, Linear
from frostproof.spec.program import Freeze, Step, Thaw
from frostproof.spec.subject import AUTOGRAD
from frostproof.training.flops import FORMULAS, Flops
from frostproof.trial.lockstep import run_trial
from tests.helpers import models
from tests.helpers.cost_tasks import (
    ACTIVATION,
    PRODUCT,
    REAL,
    WEIGHT,
    WIDTH,
    Between,
    Segments,
    mlp,
    saved_a,
    subsets,
    task_freezing,
    task_training,
    weights_a,
)


@pytest.mark.parametrize("layers", range(1, 9))
def test_the_closed_form_holds_for_every_mask(layers: int) -> None:
    stacks: list[tuple[Between, nn.Sequential]] = [
        ("ReLU", mlp(layers, nn.ReLU)),
        ("GELU", mlp(layers, nn.GELU)),
        ("none", mlp(layers, bias=False)),
    ]
    for number, trainable in enumerate(subsets(range(layers))):
        kinds = stacks if layers < 6 else [stacks[number % 3]]
        for between, model in kinds:
            task = task_training(model, trainable)
            a, b = count_costs(task, A), count_costs(task, B)
            assert a.backward_flops == PRODUCT * backward_products_a(layers, trainable)
            assert b.backward_flops == PRODUCT * backward_products_b(layers)
            assert a.forward_flops == b.forward_flops == PRODUCT * layers
            assert a.saved_bytes + a.input_bytes == ACTIVATION * saved_a(layers, trainable, between)
            assert b.saved_bytes + b.input_bytes == ACTIVATION * saved_a(
                layers, range(layers), between
            )
            assert a.weight_bytes == WEIGHT * weights_a(layers, trainable)
            assert b.weight_bytes == WEIGHT * (layers - 1)


def test_the_figures_of_eight_layers() -> None:
    """Only the last layer trains, only the fifth, only the first, or every even one."""
    shown = []
    for trainable in ((7,), (4,), (0,), (0, 2, 4, 6)):
        saved = [saved_a(8, trainable, each) for each in ("ReLU", "GELU", "none")]
        shown.append([backward_products_a(8, trainable), *saved, weights_a(8, trainable)])
    assert shown == [[1, 1, 1, 1, 0], [4, 4, 4, 1, 3], [8, 8, 8, 1, 7], [11, 8, 11, 4, 7]]
    assert backward_products_b(8) == 15
    assert [saved_a(8, range(8), each) for each in ("ReLU", "GELU", "none")] == [8, 15, 8]


@pytest.mark.parametrize("name", REAL)
def test_real_models_cost_what_they_do_by_hand(name: str) -> None:
    factory, bill, parts = REAL[name]
    model, inputs = factory()
    everything = bill(lambda parameter: True)
    for frozen in subsets(parts):
        task = task_freezing(model, inputs, *frozen)
        if not task.trainable:
            continue
        a, b = count_costs(task, A), count_costs(task, B)
        worked_out = bill(lambda parameter: parameter not in task.frozen)  # noqa: B023  # called at once
        assert (a.forward_flops, a.backward_flops, a.saved_bytes) == worked_out, frozen
        assert (b.forward_flops, b.backward_flops, b.saved_bytes) == everything, frozen
        sizes = {parameter: 4 * each.numel() for parameter, each in model.named_parameters()}
        assert b.gradient_bytes == sum(sizes.values())
        assert a.gradient_bytes == sum(sizes[parameter] for parameter in task.trainable)
        assert (a.stale_bytes, b.stale_bytes) == (
            0,
            sum(sizes[parameter] for parameter in task.frozen),
        )


@pytest.mark.parametrize("name", REAL)
def test_the_counter_counts_as_flop_counter_mode_does(name: str) -> None:
    factory, _, _ = REAL[name]
    model, inputs = factory()
    with Flops() as ours:
        mean_square_loss(model(inputs)).backward()  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as theirs:
        mean_square_loss(model(inputs)).backward()  # type: ignore[no-untyped-call]
    assert ours.flops == theirs.get_total_flops() > 0
    with torch.inference_mode(), Flops() as gradless:
        model(inputs)
    with torch.no_grad(), Flops() as same:
        model(inputs)
    assert gradless.flops == same.flops > 0


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_each_gradient_of_a_convolution_takes_as_much_as_its_forward_pass(
    groups: int, transposed: bool, dimensions: int
) -> None:
    """`FlopCounterMode` counts the gradient of the weights `groups` times."""
    kind = getattr(nn, f"Conv{'Transpose' * transposed}{dimensions}d")
    layer, inputs = kind(4, 8, 3, groups=groups), torch.randn(2, 4, *[6] * dimensions)
    with Flops() as forward:
        outputs = layer(inputs.requires_grad_())
    for samples, weights in ((True, True), (False, True), (True, False)):
        inputs.requires_grad_(samples)
        layer.weight.requires_grad_(weights)
        outputs = layer(inputs)
        with Flops() as backward:
            outputs.sum().backward()
        assert backward.flops == forward.flops * (samples + weights) > 0


def test_what_torch_func_computes_is_what_is_counted_for_it() -> None:
    task = task_training(mlp(4, nn.GELU), (1, 3))
    model = task.thawed()
    held = {name: p.detach() for name, p in model.named_parameters() if name in task.frozen}
    trained = {name: p.detach() for name, p in model.named_parameters() if name not in task.frozen}
    with Flops() as counted:
        torch.func.grad(
            lambda given: mean_square_loss(
                torch.func.functional_call(model, {**held, **given}, task.inputs)
            )
        )(trained)
    costs = count_costs(task, next(way for way in MODEL_WAYS if way.name == "torch.func"))
    assert counted.flops == costs.forward_flops + costs.backward_flops


AS_A = ("A, filtered", "no_grad prefix", "detached prefix", "torch.func", "buffers")
AS_B = ("grad = None", "lr=0", "zeroing hook", "restored weights")


def test_every_way_where_a_prefix_is_frozen() -> None:
    task = task_training(mlp(5, nn.ReLU), (3, 4))
    found = {
        each.way: each.costs
        for each in estimate_ways(task, lambda groups: _stepped(groups, torch.optim.Adam))
    }
    assert all(found.values())
    costs = {name: each for name, each in found.items() if each is not None}
    a, b = costs[A.name], costs[B.name]
    assert a.backward_flops < b.backward_flops
    assert a.saved_bytes < b.saved_bytes + b.input_bytes
    for name in AS_A:
        assert costs[name] == a, name
    for name in AS_B:
        assert costs[name].backward_flops == b.backward_flops, name
        assert costs[name].gradient_bytes == b.gradient_bytes, name
    some = costs["backward(inputs=...)"]
    assert (some.backward_flops, some.gradient_bytes, some.saved_bytes) == (
        a.backward_flops,
        a.gradient_bytes,
        b.saved_bytes,
    )
    records, steps = 2 * 4 * (WIDTH**2 + WIDTH), 2 * 4
    assert (
        a.state_bytes == b.state_bytes == costs["grad = None"].state_bytes == 2 * (records + steps)
    )
    assert all(
        costs[name].state_bytes == 5 * (records + steps)
        for name in ("lr=0", "zeroing hook", "restored weights")
    )


def _stepped(
    groups: list[dict[str, Any]], kind: Callable[..., torch.optim.Optimizer]
) -> torch.optim.Optimizer:
    optimizer = kind(groups)
    optimizer.step()
    return optimizer


def test_a_prefix_is_one_that_runs_by_itself() -> None:
    prefix = next(way for way in MODEL_WAYS if way.name == "no_grad prefix")
    assert prefix.unfit(task_training(mlp(3), (2,))) == ""
    assert "0" not in prefix.unfit(task_training(mlp(3), (0, 1)))
    assert "first layer" in prefix.unfit(task_training(mlp(3), (0,)))
    assert prefix.unfit(task_training(mlp(4), (1,))).startswith("2.weight is frozen behind")
    assert "nn.Sequential" in prefix.unfit(task_freezing(*models.resnet(), "stem"))
    named = nn.Sequential(OrderedDict(body=nn.Linear(2, 2), head=nn.Linear(2, 2)))
    assert prefix.unfit(task_freezing(named, torch.ones(1, 2), "body")) == ""
    assert "first layer" in prefix.unfit(task_freezing(named, torch.ones(1, 2), "head"))
    lstm = task_freezing(*models.classifier(), "lstm")
    assert [way.name for way in MODEL_WAYS if "LSTM" in way.unfit(lstm)] == ["buffers"]


def test_the_forward_pass_of_a_frozen_beginning_is_told_where_it_is_most() -> None:
    def told(*training: int) -> str | None:
        task = task_training(mlp(4), training)
        return forward_remark(task, layer_costs(task))

    found = told(3)
    assert found is not None
    assert f"{3 * PRODUCT:,} of {4 * PRODUCT:,} FLOPs" in found
    assert told(0, 3) is None
    assert told(1, 2, 3) is None


def test_counting_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model, inputs = models.resnet()
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    estimate_ways(task_freezing(model, inputs, "stem"), None)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(
        parameter.requires_grad or parameter.grad is not None for parameter in model.parameters()
    )


def test_a_way_that_does_not_train_what_it_ought_to_is_not_recommended() -> None:
    task = task_freezing(Segments(reentrant=True), torch.randn(3, 4), "below")
    estimates = {each.way: each for each in estimate_ways(task, None)}
    assert estimates[A.name].costs is None
    assert estimates[A.name].reason == "does not train inner.0.weight"
    chosen = cheapest_way(list(estimates.values()))
    assert chosen.way == B.name
    assert any("clip_grad_norm_" in each for each in cost_remarks(task, chosen))
    fine = task_freezing(Segments(reentrant=False), torch.randn(3, 4), "below")
    assert cheapest_way(estimate_ways(fine, None)).way == A.name


def test_state_for_what_is_frozen_decides_between_ways_that_are_alike() -> None:
    task = task_training(mlp(3), (2,))
    chosen = cheapest_way(estimate_ways(task, lambda groups: _stepped(groups, torch.optim.Adagrad)))
    assert chosen.way == "A, filtered"
    assert (
        cheapest_way(estimate_ways(task, lambda groups: _stepped(groups, torch.optim.SGD))).way
        == A.name
    )


RECURRENT = Case(
    Architecture(Input((6, 2)), (Linear(2), GRU(8))),
    mask=tuple(f"1.{kind}_{of}_l0" for kind in ("weight", "bias") for of in ("ih", "hh")),
    groups=(
        Group(
            (
                "0.weight",
                "0.bias",
                *(f"1.{kind}_{of}_l0" for kind in ("weight", "bias") for of in ("ih", "hh")),
            )
        ),
    ),
    program=(Step(),),
    batch=2,
)


@pytest.mark.parametrize(("amp", "saves_more"), [("none", False), ("autocast", True)])
def test_autocast_casts_a_frozen_weight_at_each_use(amp: Any, saves_more: bool) -> None:
    with fenced("cpu"):
        outcome = run_trial(
            RECURRENT.replaced(program=(Step(amp=amp),)),
            AUTOGRAD,
            "cpu",
            (cost_bounded.INVARIANT,),
            Approaches(),
        )
    (record,) = outcome.trial.records
    a, b = record.observations["a"].cost, record.observations["b"].cost
    assert a is not None
    assert b is not None
    assert (
        (a.saved_bytes > b.saved_bytes)
        == saves_more
        == cost_bounded.casts_again(outcome.trial, record)
    )
    assert a.backward_flops <= b.backward_flops
    assert outcome.judged == [cost_bounded.INVARIANT]
    assert not outcome.violated


def test_what_is_judged_is_the_first_step_with_each_mask() -> None:
    names = RECURRENT.groups[0].parameters
    program = (Step(), Step(), Thaw(RECURRENT.mask), Step(), Freeze(names[:2]), Step())
    with fenced("cpu"):
        trial = run_trial(
            RECURRENT.replaced(program=program), AUTOGRAD, "cpu", (), Approaches()
        ).trial
    assert [
        record.number for record in trial.records if record.observations["a"].cost is not None
    ] == [
        0,
        5,
    ]
    assert all(
        (record.observations["a"].cost is None) == (record.observations["b"].cost is None)
        for record in trial.records
    )
