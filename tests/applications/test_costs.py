"""Costs are counted as they are: against closed forms, against counts by hand, and against what torch itself counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from frostproof.applications.costs import closed_form
from frostproof.applications.costs.closed_form import Between
from frostproof.applications.costs.counting import count
from frostproof.applications.costs.explaining import explained
from frostproof.applications.costs.recommending import drifting, estimated, recommended, remarks
from frostproof.applications.costs.task import Task, loss_of
from frostproof.applications.costs.ways import WAYS, A, B
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
from tests.helpers import byhand, models

ROWS, WIDTH = 3, 4
PRODUCT, ACTIVATION, WEIGHT = 2 * ROWS * WIDTH**2, 4 * ROWS * WIDTH, 4 * WIDTH**2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def subsets(items: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """All but the empty one."""
    return chain.from_iterable(combinations(items, size) for size in range(1, len(items) + 1))


def mlp(
    layers: int, between: Callable[[], nn.Module] | None = None, bias: bool = True
) -> nn.Sequential:
    stack: list[nn.Module] = []
    for number in range(layers):
        stack += [between()] if between and number else []
        stack.append(nn.Linear(WIDTH, WIDTH, bias=bias))
    return nn.Sequential(*stack)


def training(model: nn.Sequential, layers: Sequence[int]) -> Task:
    """The task in which these of the linear layers train."""
    linear = [str(place) for place, module in enumerate(model) if isinstance(module, nn.Linear)]
    trained = {linear[layer] for layer in layers}
    frozen = frozenset(
        name for name, _ in model.named_parameters() if name.partition(".")[0] not in trained
    )
    return Task(model, (torch.randn(ROWS, WIDTH),), frozen)


def without(model: nn.Module, inputs: Any, *parts: str) -> Task:
    """The task in which what begins with one of `parts` is frozen."""
    return Task(
        model,
        (inputs,),
        frozenset(name for name, _ in model.named_parameters() if name.startswith(parts)),
    )


@pytest.mark.parametrize("layers", range(1, 9))
def test_the_closed_form_holds_for_every_mask(layers: int) -> None:
    stacks: list[tuple[Between, nn.Sequential]] = [
        ("ReLU", mlp(layers, nn.ReLU)), ("GELU", mlp(layers, nn.GELU)), ("none", mlp(layers, bias=False))
    ]  # fmt: skip
    for number, trainable in enumerate(subsets(range(layers))):
        kinds = stacks if layers < 6 else [stacks[number % 3]]
        for between, model in kinds:
            task = training(model, trainable)
            a, b = count(task, A), count(task, B)
            assert a.backward_flops == PRODUCT * closed_form.backward_a(layers, trainable)
            assert b.backward_flops == PRODUCT * closed_form.backward_b(layers)
            assert a.forward_flops == b.forward_flops == PRODUCT * layers
            assert a.saved_bytes + a.input_bytes == ACTIVATION * closed_form.saved_a(
                layers, trainable, between
            )
            assert b.saved_bytes + b.input_bytes == ACTIVATION * closed_form.saved_b(
                layers, between
            )
            assert a.weight_bytes == WEIGHT * closed_form.weights_a(layers, trainable)
            assert b.weight_bytes == WEIGHT * (layers - 1)


def test_the_figures_of_eight_layers() -> None:
    """Section 2 of the notes from which this began: last only, the fifth only, first only, even layers."""
    shown = []
    for trainable in ((7,), (4,), (0,), (0, 2, 4, 6)):
        saved = [closed_form.saved_a(8, trainable, each) for each in ("ReLU", "GELU", "none")]
        shown.append(
            [closed_form.backward_a(8, trainable), *saved, closed_form.weights_a(8, trainable)]
        )
    assert shown == [[1, 1, 1, 1, 0], [4, 4, 4, 1, 3], [8, 8, 8, 1, 7], [11, 8, 11, 4, 7]]
    assert closed_form.backward_b(8) == 15
    assert [closed_form.saved_b(8, each) for each in ("ReLU", "GELU", "none")] == [8, 15, 8]


REAL = {
    "resnet": (
        models.resnet,
        byhand.resnet,
        ("stem", "layer1.conv1", "layer1.bn1", "layer1.conv2", "layer2", "head"),
    ),
    "encoder": (
        models.encoder,
        byhand.encoder,
        (
            "encoder.layers.0.self_attn",
            "encoder.layers.0.linear1",
            "encoder.layers.0.norm",
            "encoder.layers.1.linear2",
            "head",
        ),
    ),
    "classifier": (
        models.classifier,
        byhand.classifier,
        ("embedding", "lstm.weight_ih", "lstm.weight_hh", "head"),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models_cost_what_they_do_by_hand(name: str) -> None:
    factory, bill, parts = REAL[name]
    model, inputs = factory()
    everything = bill(lambda parameter: True)
    for frozen in subsets(parts):
        task = without(model, inputs, *frozen)
        if not task.trainable:
            continue
        a, b = count(task, A), count(task, B)
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
        loss_of(model(inputs)).backward()  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as theirs:
        loss_of(model(inputs)).backward()  # type: ignore[no-untyped-call]
    assert ours.flops == theirs.get_total_flops() > 0
    with torch.inference_mode(), Flops() as gradless:
        model(inputs)
    with torch.no_grad(), Flops() as same:
        model(inputs)
    assert gradless.flops == same.flops > 0


def test_what_torch_func_computes_is_what_is_counted_for_it() -> None:
    task = training(mlp(4, nn.GELU), (1, 3))
    model = task.thawed()
    held = {name: p.detach() for name, p in model.named_parameters() if name in task.frozen}
    trained = {name: p.detach() for name, p in model.named_parameters() if name not in task.frozen}
    with Flops() as counted:
        torch.func.grad(
            lambda given: loss_of(torch.func.functional_call(model, {**held, **given}, task.inputs))
        )(trained)
    costs = count(task, next(way for way in WAYS if way.name == "torch.func"))
    assert counted.flops == costs.forward_flops + costs.backward_flops


AS_A = ("A, filtered", "no_grad prefix", "detached prefix", "torch.func", "buffers")
AS_B = ("grad = None", "lr=0", "zeroing hook", "restored weights")


def test_every_way_where_a_prefix_is_frozen() -> None:
    task = training(mlp(5, nn.ReLU), (3, 4))
    found = {
        each.way: each.costs
        for each in estimated(task, lambda groups: _stepped(groups, torch.optim.Adam))
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
    prefix = next(way for way in WAYS if way.name == "no_grad prefix")
    assert prefix.unfit(training(mlp(3), (2,))) == ""
    assert "0" not in prefix.unfit(training(mlp(3), (0, 1)))
    assert "first layer" in prefix.unfit(training(mlp(3), (0,)))
    assert prefix.unfit(training(mlp(4), (1,))).startswith("2.bias is frozen behind")
    assert "nn.Sequential" in prefix.unfit(without(*models.resnet(), "stem"))
    lstm = without(*models.classifier(), "lstm")
    assert [way.name for way in WAYS if "LSTM" in way.unfit(lstm)] == ["buffers"]


def test_counting_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model, inputs = models.resnet()
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    estimated(without(model, inputs, "stem"), None)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(
        parameter.requires_grad or parameter.grad is not None for parameter in model.parameters()
    )


class Segments(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.below, self.inner, self.above = nn.Linear(4, 4), mlp(2, nn.ReLU), nn.Linear(4, 4)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.above(
            checkpoint(self.inner, self.below(x), use_reentrant=self.reentrant)
        )
        return found


def test_a_way_that_does_not_train_what_it_ought_to_is_not_recommended() -> None:
    task = without(Segments(reentrant=True), torch.randn(3, 4), "below")
    estimates = {each.way: each for each in estimated(task, None)}
    assert estimates[A.name].costs is None
    assert estimates[A.name].reason == "does not train inner.0.weight"
    chosen = recommended(list(estimates.values()))
    assert chosen.way == B.name
    assert any("clip_grad_norm_" in each for each in remarks(task, chosen))
    fine = without(Segments(reentrant=False), torch.randn(3, 4), "below")
    assert recommended(estimated(fine, None)).way == A.name


def test_state_for_what_is_frozen_decides_between_ways_that_are_alike() -> None:
    task = training(mlp(3), (2,))
    chosen = recommended(estimated(task, lambda groups: _stepped(groups, torch.optim.Adagrad)))
    assert chosen.way == "A, filtered"
    assert (
        recommended(estimated(task, lambda groups: _stepped(groups, torch.optim.SGD))).way == A.name
    )


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("frozen", ["below", "inner.0", "inner", "above"])
def test_modules_add_up_to_the_whole(frozen: str, reentrant: bool) -> None:
    _adds_up(without(Segments(reentrant), torch.randn(3, 4), frozen))


@pytest.mark.parametrize("name", REAL)
def test_modules_of_real_models_add_up_to_the_whole(name: str) -> None:
    factory, _, parts = REAL[name]
    for part in parts:
        _adds_up(without(*factory(), part))


def _adds_up(task: Task) -> None:
    layers, whole = explained(task), count(task, A)
    assert sum(each.forward_flops for each in layers) == whole.forward_flops
    assert sum(each.weight_flops + each.input_flops for each in layers) == whole.backward_flops
    assert sum(each.weights for each in layers) == sum(
        parameter.numel() for parameter in task.model.parameters()
    )
    for each in layers:
        assert each.frozen < each.weights or not each.weight_flops


def test_each_module_says_what_its_backward_pass_is_for() -> None:
    layers = {
        each.path: each for each in explained(without(*models.resnet(), "layer1", "head.weight"))
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
    prefix = {each.path: each for each in explained(without(*models.resnet(), "stem", "layer1"))}
    assert prefix["layer1.conv2"].why == "nothing: all before it is frozen"
    assert (prefix["layer2.conv1"].weight_flops, prefix["layer2.conv1"].input_flops) == (
        convolution,
        0,
    )
    assert prefix["head"].needed_by == "layer2.conv1.weight"
    cut = {
        each.path: each
        for each in explained(without(Segments(reentrant=True), torch.randn(3, 4), "below"))
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

    layers = {each.path: each for each in explained(without(Twice(), torch.randn(3, 4), "other"))}
    product = 2 * 3 * 4 * 4
    assert (layers["one"].weight_flops, layers["one"].input_flops) == (2 * product, product)
    assert layers["other"].input_flops == product


def test_what_is_frozen_and_changes_all_the_same_is_named() -> None:
    model, inputs = models.resnet()
    assert drifting(without(model, inputs, "stem", "layer1")) == ["layer1.bn1", "layer1.bn2"]
    assert drifting(without(model, inputs, "stem", "layer1.bn1.weight")) == []
    model.get_submodule("layer1").eval()
    assert drifting(without(model, inputs, "stem", "layer1")) == []
    tied = mlp(2)
    tied[1].weight = tied[0].weight
    task = Task(tied, (torch.randn(2, WIDTH),), frozenset({"0.weight"}))
    assert any(
        "0.weight and 1.weight are one parameter" in each
        for each in remarks(task, estimated(task, None)[0])
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
