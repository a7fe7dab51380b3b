"""The costs of single modules add up to the whole, and say what their backward pass is for."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from frostproof.applications.costs.counting import count_costs
from frostproof.applications.costs.explaining import layer_costs
from frostproof.applications.costs.recommending import (
    cost_remarks,
    drifting_modules,
    estimate_ways,
    upstream_remark,
)
from frostproof.applications.costs.task import CostTask
from frostproof.applications.costs.ways import A
from tests.helpers import models
from tests.helpers.cost_tasks import REAL, WIDTH, Segments, mlp, task_freezing


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("frozen", ["below", "inner.0", "inner", "above"])
def test_modules_add_up_to_the_whole(frozen: str, reentrant: bool) -> None:
    _adds_up(task_freezing(Segments(reentrant), torch.randn(3, 4), frozen))


@pytest.mark.parametrize("name", REAL)
def test_modules_of_real_models_add_up_to_the_whole(name: str) -> None:
    factory, _, parts = REAL[name]
    for part in parts:
        _adds_up(task_freezing(*factory(), part))


def _adds_up(task: CostTask) -> None:
    layers, whole = layer_costs(task), count_costs(task, A)
    assert sum(each.forward_flops for each in layers) == whole.forward_flops
    assert sum(each.weight_flops + each.input_flops for each in layers) == whole.backward_flops
    assert sum(each.weights for each in layers) == sum(
        parameter.numel() for parameter in task.model.parameters()
    )
    for each in layers:
        assert each.frozen < each.weights or not each.weight_flops


def test_each_module_says_what_its_backward_pass_is_for() -> None:
    layers = {
        each.path: each
        for each in layer_costs(task_freezing(*models.resnet(), "layer1", "head.weight"))
    }
    convolution = 2 * models.BATCH * models.SIDE**2 * models.CHANNELS**2 * 9
    assert layers["stem"].why == "trains"
    assert layers["layer1.conv1"].why == "needed by stem.weight"
    assert (layers["layer1.conv1"].weight_flops, layers["layer1.conv1"].input_flops) == (
        0,
        convolution,
    )
    assert layers["layer2.conv1"].why == "trains; needed by stem.weight"
    assert (layers["layer2.conv1"].weight_flops, layers["layer2.conv1"].input_flops) == (
        convolution,
        convolution,
    )
    prefix = {
        each.path: each for each in layer_costs(task_freezing(*models.resnet(), "stem", "layer1"))
    }
    assert prefix["layer1.conv2"].why == "nothing: all before it is frozen"
    assert (prefix["layer2.conv1"].weight_flops, prefix["layer2.conv1"].input_flops) == (
        convolution,
        0,
    )
    assert prefix["head"].needed_by == "layer2.conv1.weight"
    cut = {
        each.path: each
        for each in layer_costs(task_freezing(Segments(reentrant=True), torch.randn(3, 4), "below"))
    }
    assert cut["inner.0"].why == "gets no gradient"


def test_a_layer_that_is_called_twice_is_told_apart_call_by_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.other(self.one(self.one(x)))
            return found

    layers = {
        each.path: each for each in layer_costs(task_freezing(Twice(), torch.randn(3, 4), "other"))
    }
    product = 2 * 3 * 4 * 4
    assert (layers["one"].weight_flops, layers["one"].input_flops) == (2 * product, product)
    assert layers["other"].input_flops == product


def test_what_is_frozen_and_changes_all_the_same_is_named() -> None:
    model, inputs = models.resnet()
    assert drifting_modules(task_freezing(model, inputs, "stem", "layer1")) == [
        "layer1.bn1",
        "layer1.bn2",
    ]
    assert drifting_modules(task_freezing(model, inputs, "stem", "layer1.bn1.weight")) == []
    model.get_submodule("layer1").bn1 = nn.BatchNorm2d(4, affine=False)
    assert "layer1.bn1" in drifting_modules(task_freezing(model, inputs, "stem", "layer1"))
    model.get_submodule("layer1").eval()
    assert drifting_modules(task_freezing(model, inputs, "stem", "layer1")) == []
    tied = mlp(2)
    tied[1].weight = tied[0].weight
    task = CostTask(tied, (torch.randn(2, WIDTH),), frozenset({"0.weight"}))
    assert any(
        "0.weight and 1.weight are one parameter" in each
        for each in cost_remarks(task, estimate_ways(task, None)[0])
    )


def test_the_gradient_of_a_parametrized_weight_is_for_the_weight() -> None:
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3, groups=4))
    model = nn.Sequential(nn.Linear(6, 6), convolution)
    task = CostTask(model, (torch.randn(2, 4, 6),), frozenset({"0.weight", "0.bias"}))
    (layer,) = [each for each in layer_costs(task) if each.path == "1"]
    assert (layer.weight_flops, layer.input_flops) == (layer.forward_flops, 0)


def test_what_trains_before_frozen_modules_is_told_with_what_freezing_it_would_save() -> None:
    class Positioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(16))
            self.body = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
            self.head = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.head(self.body(x + self.position)))

    task = task_freezing(Positioned(), torch.randn(3, 16), "body")
    remark = upstream_remark(task, layer_costs(task))
    head, body = 2 * 3 * 16 * 2, 2 * 2 * 3 * 16 * 16
    whole = body + 2 * head
    assert remark == (
        "backward goes through frozen modules (body.0, body.2), as what comes before them trains "
        f"(position): with that frozen, too, it would take {head:,} FLOPs and not {whole:,}"
    )
    task = task_freezing(Positioned(), torch.randn(3, 16), "body", "position")
    assert upstream_remark(task, layer_costs(task)) is None
    model = Positioned()
    model.body[2] = nn.utils.parametrizations.weight_norm(model.body[2])
    task = task_freezing(model, torch.randn(3, 16), "body.0", "body.2.bias")
    remark = upstream_remark(task, layer_costs(task))
    assert remark is not None
    assert "modules (body.0), as what comes before them trains (position):" in remark
