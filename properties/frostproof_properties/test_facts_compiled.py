"""Facts of torch.compile: models and steps that are compiled, and what is not compiled at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adadelta, AdamW, Optimizer, Rprop, lr_scheduler
from torch.utils.checkpoint import checkpoint

from frostproof.optimizers.torch_version import torch_is
from frostproof.process.fence import fenced
from frostproof.spec.setting import SETTINGS
from frostproof.training.bits import bits_of, gradient_bits

COMPILED = next(setting for setting in SETTINGS if setting.compiles)
BACKEND = "aot_eager"
USUAL_LIMIT = 8
"""Torch's own limit of recompilations."""


@contextmanager
def compiling() -> Iterator[None]:
    """Let a test compile, which the suite itself does not."""
    with fenced("cpu", COMPILED):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        yield


def graphs() -> int:
    """The number of graphs that were compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def network(depth: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Linear(3, 3), nn.Tanh())))


def backward(model: nn.Module, called: Any, number: int) -> None:
    torch.manual_seed(number)
    model.zero_grad()
    called(torch.randn(2, 3)).square().sum().backward()


@compiling()
def test_a_compiled_model_follows_flags_that_change() -> None:
    """One graph for each mask.

    Before torch 2.12 there is one graph, which fits if nothing was frozen when it was made.

    Row 50: https://github.com/pytorch/pytorch/issues/139476
    """
    model, twin = network(), network()
    compiled = torch.compile(model, backend=BACKEND)
    for number, frozen in enumerate((False, True, False, True)):
        model[0].requires_grad_(not frozen)
        twin[0].requires_grad_(not frozen)
        backward(model, compiled, number)
        backward(twin, twin, number)
        assert gradient_bits(model.parameters()) == gradient_bits(twin.parameters())
        assert (model[0].weight.grad is None) == frozen
    assert graphs() == (2 if torch_is(">=2.12") else 1)


@compiling()
def test_what_thaws_in_a_compiled_model_trains_from_torch_2_12_on() -> None:
    """Before, it gets no gradient, in silence: the graph that was made while it was frozen stays.

    Compiled anew, the model has the same graph. `torch._dynamo.reset()` forgets it.

    Row 50: https://github.com/pytorch/pytorch/issues/139476
    """
    model = network()

    def trains(called: Any) -> bool:
        backward(model, called, 0)
        return model[0].weight.grad is not None

    compiled = torch.compile(model, backend=BACKEND)
    model[0].requires_grad_(False)
    assert not trains(compiled)
    model[0].requires_grad_(True)
    assert trains(compiled) == torch_is(">=2.12")
    assert trains(torch.compile(model, backend=BACKEND)) == torch_is(">=2.12")
    torch._dynamo.reset()
    assert trains(compiled)


@pytest.mark.parametrize("optimizing", [SGD, AdamW])
@compiling()
def test_a_compiled_step_moves_what_has_a_gradient(optimizing: Any) -> None:
    """One graph for each mask, and at most three more.

    Row 51: https://github.com/pytorch/pytorch/issues/115607
    """
    model, masks = network(), ((), (0,), (0, 1), (2,), ())
    optimizer = optimizing(model.parameters(), lr=0.1, weight_decay=0.1)
    step = torch.compile(optimizer.step, backend=BACKEND)
    parameters = list(model.parameters())
    for number, frozen in enumerate(masks):
        for i, parameter in enumerate(parameters):
            parameter.requires_grad_(i not in frozen)
        backward(model, model, number)
        before = bits_of(parameters)
        step()  # type: ignore[no-untyped-call]
        pairs = zip(before, bits_of(parameters), strict=True)
        assert [old == new for old, new in pairs] == [i in frozen for i in range(4)]
    masks_seen = len(set(masks))
    assert masks_seen <= graphs() <= masks_seen + 3


class _Counts(Optimizer):
    """SGD that counts its steps in each place where an optimizer may."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"steps": 0})
        self.number, self.list, self.dict = 0, list[int](), {"steps": 0}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.number += 1
        self.list.append(1)
        self.dict["steps"] += 1
        for group in self.param_groups:
            group["steps"] += 1
            for p in group["params"]:
                self.state[p]["steps"] = self.state[p].get("steps", 0) + 1
                p.sub_(p.grad, alpha=0.1)

    def counts(self) -> list[int]:
        (group,) = self.param_groups
        states = [self.state[p]["steps"] for p in group["params"]]
        return [self.number, len(self.list), self.dict["steps"], group["steps"], *states]


@pytest.mark.skipif(not torch_is(">=2.13"), reason="known of torch 2.13 and 2.14")
@compiling()
def test_a_compiled_step_forgets_the_numbers_that_an_optimizer_has_as_attributes() -> None:
    """It keeps what is in lists and dicts, in groups and in state.

    Row 51: https://github.com/pytorch/pytorch/issues/115607
    """
    model = network(1)
    optimizer = _Counts(model.parameters())
    step = torch.compile(optimizer.step, backend=BACKEND)
    for number in range(3):
        backward(model, model, number)
        step()
    assert optimizer.counts() == [0, 3, 3, 3, 3, 3]
    optimizer.step()
    assert optimizer.counts() == [1, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    ("optimizing", "least", "most"), [(SGD, 0, 0), (Adadelta, 0, 0), (Rprop, 0, 0), (AdamW, 8, 512)]
)
@compiling()
def test_a_compiled_step_of_adamw_corrects_its_bias_in_single_precision(
    optimizing: Any, least: float, most: float, foreach: bool
) -> None:
    """It differs from the eager step by dozens of units in the last place, already the first time.

    Compiled, the number of steps is a tensor of float32, and with it the correction of the bias.
    SGD, Adadelta and Rprop have none: their compiled step has the bits of the eager one, that of
    SGD with `foreach=False` from torch 2.12 on. `least` and `most` are units in the last place of
    the weight, or of the learning rate if that is larger.

    Row 51: https://github.com/pytorch/pytorch/issues/115607
    """
    eager, compiled = (
        [nn.Parameter(torch.linspace(-2, 2, 15).reshape(3, 5)) for _ in range(2)] for _ in range(2)
    )
    optimizers = [optimizing(each, lr=0.1, foreach=foreach) for each in (eager, compiled)]
    steps = optimizers[0].step, torch.compile(optimizers[1].step, backend=BACKEND)
    for number in range(3):
        torch.manual_seed(number)
        for one, other in zip(eager, compiled, strict=True):
            one.grad = torch.randn(3, 5)
            other.grad = one.grad.clone()
        for step in steps:
            step()
        units = (
            max(
                float((abs(one - other) / one.abs().clamp(min=0.1)).max())
                for one, other in zip(eager, compiled, strict=True)
            )
            / torch.finfo(torch.float32).eps
        )
        rounds = optimizing is SGD and not foreach and not torch_is(">=2.12")
        assert least <= units <= (1 if rounds else most)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("frozen", ["first", "last"])
@compiling()
def test_a_compiled_step_of_sgd_forgets_its_momentum_behind_a_frozen_first_group(
    frozen: str, foreach: bool
) -> None:
    """In silence. With the frozen group behind the other one, it keeps it.

    Row 51: https://github.com/pytorch/pytorch/issues/115607
    """
    moved = []
    for compiled in (False, True):
        idle, trained = (nn.Parameter(torch.zeros(2)) for _ in range(2))
        order = (idle, trained) if frozen == "first" else (trained, idle)
        groups = [{"params": [each]} for each in order]
        optimizer = SGD(groups, lr=1.0, momentum=0.5, foreach=foreach)
        step = torch.compile(optimizer.step, backend=BACKEND) if compiled else optimizer.step
        for _ in range(3):
            trained.grad = torch.ones(2)
            step()
        moved.append(-float(trained[0]))
    assert moved == [4.25, 3.0 if frozen == "first" else 4.25]


@compiling()
def test_a_compiled_reentrant_checkpoint_trains_what_it_cuts_off_without_torch_compile() -> None:
    """No input of the segment requires grad, so that it would train nothing.

    Row 28: https://github.com/huggingface/transformers/issues/21381
    """

    def allocated(compiled: bool) -> bool:
        prefix, segment = network(1), network(1)
        prefix.requires_grad_(False)

        def forward(samples: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = checkpoint(segment, prefix(samples), use_reentrant=True)
            return outputs

        run = torch.compile(forward, backend=BACKEND) if compiled else forward
        loss: Any = run(torch.ones(2, 3)).square().mean()
        if loss.requires_grad:
            loss.backward()
        return segment[0].weight.grad is not None

    assert [allocated(compiled) for compiled in (False, True)] == [False, True]


@pytest.mark.skipif(not torch_is(">=2.12"), reason="no graph for each mask before torch 2.12")
@compiling()
def test_gradual_unfreezing_reaches_the_recompile_limit_in_silence() -> None:
    """From there it runs eagerly.

    Row 50: https://github.com/pytorch/pytorch/issues/139476
    """
    stages = 10
    model = network(stages)
    compiled = torch.compile(model, backend=BACKEND)
    torch._dynamo.config.recompile_limit = USUAL_LIMIT
    model.requires_grad_(False)
    for stage in reversed(range(stages)):
        model[2 * stage].requires_grad_(True)
        backward(model, compiled, stage)
        assert model[2 * stage].weight.grad is not None
    assert graphs() == USUAL_LIMIT < stages


@pytest.mark.parametrize(("compiled", "products"), [(False, 1), (True, 7)])
@compiling()
def test_backward_of_a_compiled_model_computes_what_its_inputs_leave_out(
    compiled: bool, products: int
) -> None:
    """So that `loss.backward(inputs=...)` saves nothing. It is the last of four layers that trains.

    Row 50: no public report.
    """
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    called: Any = torch.compile(model, backend=BACKEND) if compiled else model
    loss = called(torch.ones(2, 3)).square().sum()
    with torch.profiler.profile() as profiled:
        loss.backward(inputs=[*model[3].parameters()])
    counts = [each.count for each in profiled.key_averages() if each.key == "aten::mm"]
    assert counts == [products]
    assert [layer.weight.grad is None for layer in model] == [True, True, True, False]


@compiling()
def test_a_container_that_compiles_itself_compiles_nothing_before_torch_2_14() -> None:
    """`torch.compile(model)` does, in each release.

    Row 50: https://github.com/pytorch/pytorch/issues/139476
    """
    model = network()
    model.compile(backend=BACKEND)
    backward(model, model, 0)
    assert graphs() == (1 if torch_is(">=2.14") else 0)


@compiling()
def test_a_scheduler_refuses_an_optimizer_whose_step_was_replaced_by_a_compiled_one() -> None:
    """It looks for the step's function.

    Row 51: https://github.com/pytorch/pytorch/issues/115607
    """
    optimizer = SGD(network().parameters(), lr=0.1)
    optimizer.step = torch.compile(optimizer.step, backend=BACKEND)  # type: ignore[method-assign]
    with pytest.raises(AttributeError, match="__func__"):
        lr_scheduler.StepLR(optimizer, 1)


@compiling()
def test_the_step_of_lbfgs_is_not_compiled_once_something_else_was() -> None:
    """torch disables it when it first compiles anything. A step that was compiled before that is.

    Before 2.11, calling it raises, because what is disabled does not know its optimizer.

    Row 51: https://github.com/pytorch/pytorch/issues/115607
    """
    model = network()
    torch.compile(model, backend=BACKEND)(torch.ones(2, 3))
    before = graphs()
    optimizer = LBFGS(model.parameters(), max_iter=1)
    step = torch.compile(optimizer.step, backend=BACKEND)
    backward(model, model, 0)
    # The closure is taken for the optimizer; who notices depends on what wraps step().
    if torch_is(">=2.11"):
        step(lambda: torch.ones(()))
    else:
        said = "missing 1 required positional argument: 'closure'|has no attribute '_optimizer_step"
        with pytest.raises((TypeError, AttributeError), match=said):
            step(lambda: torch.ones(()))
    assert graphs() == before == 1


@pytest.mark.skipif(not torch_is(">=2.13"), reason="known of torch 2.13 and 2.14")
@compiling()
def test_a_compiled_step_mixes_up_a_disabled_closure_and_none() -> None:
    """It calls None. Wrapped in a lambda, the closure is told from none.

    Row 51: no public report.
    """
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    step = torch.compile(optimizer.step, backend=BACKEND)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def closure() -> torch.Tensor:
        backward(model, model, 0)
        return torch.ones(())

    step(lambda: closure())  # noqa: PLW0108
    step()
    step(closure)
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        step()
