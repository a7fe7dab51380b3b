"""`frostproof.watch` in a training: silent where all frozen stays, and plain where it does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

import frostproof
from frostproof.applications.watching.digest import WIDTH, changed, digest
from frostproof.applications.watching.watch import watch
from frostproof.errors import UsageError, ViolationError
from frostproof.optimizers.torch_version import torch_is
from tests.helpers import audited
from tests.helpers.audited import Leaky


class Net(nn.Module):
    """Takes (batch, 3)."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(4)
        nn.init.ones_(norm.bias)
        self.backbone: Any = nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.backbone(x))
        return found


class Hidden(torch.optim.SGD):
    """Decays what has no gradient, too, through `.data`."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(0.9)
        return super().step(closure)


class Thawing(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.requires_grad_(True)
        return super().step(closure)


def frozen_net() -> Net:
    torch.manual_seed(0)
    model = Net()
    model.backbone.requires_grad_(False)
    model.backbone.eval()
    return model


def train(model: nn.Module, optimizer: Any, steps: int = 3, **zero_grad: Any) -> None:
    for _ in range(steps):
        optimizer.zero_grad(**zero_grad)
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()


def findings(model: nn.Module, optimizer: Any, body: Callable[[], None], **given: Any) -> list[str]:
    """What a watch over the backbone collects while `body` runs, as `id name`."""
    with frostproof.watch(
        model, optimizer, **{"frozen": ["backbone"], "collect": True, **given}
    ) as watched:
        body()
    return [f"{each.invariant} {each.name}" for each in watched.findings]


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adagrad", "Rprop", "LBFGS"])
def test_nothing_is_found_where_all_frozen_stays(name: str) -> None:
    model = frozen_net()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(torch.ones(5, 3)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    head = model.head.weight.clone()
    with frostproof.watch(model, optimizer) as watched:
        for _ in range(3):
            optimizer.step(closure)
    assert watched.steps == 3
    assert watched.findings == []
    assert not torch.equal(head, model.head.weight)


def test_nothing_is_found_where_the_optimizer_owns_the_trainable_parameters_only() -> None:
    model = Net()
    model.backbone[1].eval()
    optimizer = torch.optim.AdamW(model.head.parameters())
    assert findings(model, optimizer, lambda: train(model, optimizer)) == []


def test_an_optimizer_that_moves_frozen_weights_is_told_from_within_its_step() -> None:
    model = frozen_net()
    optimizer = Leaky(model.parameters(), lr=0.1)
    with (
        pytest.raises(ViolationError, match="frozen-weights-unchanged") as caught,
        frostproof.watch(model, optimizer, frozen=["backbone.*"]),
    ):
        train(model, optimizer)
    text = str(caught.value)
    assert "at step 1: step() moved the frozen parameter backbone.0.weight" in text
    assert "it has no gradient" in text
    assert any(entry.name == "train" for entry in caught.traceback)


def message(model: nn.Module, optimizer: Any, body: Callable[[], None], **given: Any) -> str:
    with (
        pytest.raises(ViolationError) as caught,
        frostproof.watch(model, optimizer, **{"frozen": "backbone", **given}),
    ):
        body()
    return str(caught.value)


def test_a_leftover_gradient_is_the_reason_that_is_told() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    model.backbone.requires_grad_(False)
    text = message(model, optimizer, optimizer.step)
    assert "it has a gradient; call requires_grad_(False), and set its grad to None" in text


def test_zeros_as_gradients_are_the_reason_that_is_told() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer, 1)
    model.backbone.requires_grad_(False)
    text = message(model, optimizer, lambda: train(model, optimizer, set_to_none=False))
    assert "its gradient is zeros" in text


def test_who_wrote_is_told_as_far_as_it_can_be_known() -> None:
    model = frozen_net()
    optimizer: Any = Hidden(model.parameters(), lr=0.1)
    text = message(model, optimizer, lambda: train(model, optimizer))
    assert "step(), or something before it, wrote to .data and moved" in text

    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)

    def load_and_train() -> None:
        model.load_state_dict(Net().state_dict())
        train(model, optimizer)

    text = message(model, optimizer, load_and_train)
    assert "something outside of step() moved the frozen parameter backbone.0.weight" in text
    assert text.endswith("look for what writes it, as load_state_dict does")

    def edit_and_train() -> None:
        with torch.no_grad():
            model.backbone[0].weight.mul_(2)
        train(model, optimizer)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # which has no part in it
    text = message(model, optimizer, edit_and_train)
    assert text.endswith("look for what writes it, as load_state_dict does")


def test_a_parameter_that_is_replaced_is_not_lost_sight_of() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)

    def replace_and_train(weight: Tensor) -> None:
        model.backbone[0].weight = nn.Parameter(weight, requires_grad=False)
        train(model, optimizer)

    same = model.backbone[0].weight.detach().clone()
    assert findings(model, optimizer, lambda: replace_and_train(same)) == []
    text = message(model, optimizer, lambda: replace_and_train(2 * same))
    assert "another parameter took the place of the frozen parameter backbone.0.weight" in text

    def remove_and_train() -> None:
        model.backbone[0] = nn.Identity()
        model.backbone[0].register_parameter("bias", nn.Parameter(torch.zeros(4)))
        model.backbone.insert(1, nn.Linear(3, 4))
        train(model, optimizer)

    text = message(model, optimizer, remove_and_train)
    assert "backbone.0.weight, which is frozen, is no longer in the model" in text


def test_the_last_look_is_at_the_end() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def move() -> None:
        model.backbone[0].bias.data.add_(1)

    assert "backbone.0.bias" in message(model, optimizer, move)


def test_an_error_of_the_training_is_not_hidden() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def fail() -> None:
        model.backbone[0].bias.data.add_(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        findings(model, optimizer, fail, collect=False)
    train(model, optimizer)  # nobody watches any more


def test_flags_gradients_and_owners_are_looked_at() -> None:
    model = frozen_net()
    optimizer: Any = Thawing(model.parameters(), lr=0.1)
    found = findings(model, optimizer, optimizer.step)
    names = [name for name, _ in model.backbone.named_parameters(prefix="backbone")]
    assert found == [f"flags-untouched {name}" for name in names]
    model = frozen_net()
    optimizer = Thawing(model.parameters(), lr=0.1)
    assert "the optimizer flipped requires_grad of" in message(model, optimizer, optimizer.step)

    model = frozen_net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)

    def thaw() -> None:
        model.backbone[0].requires_grad_(True)
        optimizer.add_param_group({"params": model.backbone[0].parameters()})

    assert findings(model, optimizer, thaw) == [
        f"flags-untouched backbone.0.{name}" for name in ("weight", "bias")
    ]

    def allocate() -> None:
        model.backbone[2].weight.grad = torch.ones(4, 4)

    other = frozen_net()
    untouched = torch.optim.SGD(other.head.parameters(), lr=0.1)
    assert findings(other, untouched, lambda: None) == []
    assert findings(model, optimizer, allocate) == ["no-grad-allocated backbone.2.weight"]


def test_a_parameter_that_gets_into_the_optimizer_while_it_requires_grad_is_told() -> None:
    model = Net()
    model.backbone[1].eval()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)

    def add() -> None:
        optimizer.add_param_group({"params": [model.backbone[0].weight]})

    assert findings(model, optimizer, add) == ["flags-untouched backbone.0.weight"]
    model = frozen_net()  # before gradual unfreezing, it may
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    assert findings(model, optimizer, add) == []


def test_state_of_frozen_parameters_is_looked_at() -> None:
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    optimizer.zero_grad()
    model.backbone.requires_grad_(False).eval()

    def forget() -> None:
        optimizer.state[model.backbone[0].weight]["exp_avg"].zero_()

    assert findings(model, optimizer, forget) == ["freeze-midway-holds backbone.0.weight"]
    assert findings(model, optimizer, lambda: train(model, optimizer)) == []


def test_a_frozen_norm_that_goes_back_to_train_mode_is_told_with_the_remedy() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def epoch() -> None:
        model.train()
        train(model, optimizer)

    text = message(model, optimizer, epoch)
    assert "of the frozen backbone.1, which was in eval mode" in text
    assert text.endswith("call eval() after model.train()")
    model = frozen_net()
    model.backbone.train()  # its statistics change by design, and nobody said otherwise
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert findings(model, optimizer, epoch) == []
    model.eval()  # as a whole, which says nothing about frozen modules
    assert findings(model, optimizer, epoch) == []


def test_frozen_norms_in_train_mode_are_one_warning() -> None:
    model = frozen_net()
    model.backbone.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match=r"rewrite their buffers: backbone\.1; call") as caught:
        assert findings(model, optimizer, lambda: train(model, optimizer)) == []
    assert len(caught) == 1
    found = findings(model, optimizer, lambda: train(model, optimizer), buffers=True)
    assert found[0] == "buffers-hold-in-eval backbone.1.running_mean"


@pytest.mark.parametrize(
    ("layer", "buffer"),
    [
        (lambda: nn.BatchNorm1d(4, affine=False), "1.running_mean"),
        (
            lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
            "1.parametrizations.weight.0._u",
        ),
    ],
    ids=["norm without weights", "spectral norm"],
)
def test_buffers_of_modules_without_weights_belong_to_the_frozen_part(
    layer: Callable[[], nn.Module], buffer: str
) -> None:
    def trained(**options: bool) -> list[str]:
        model = frozen_net()
        model.backbone[1] = layer().requires_grad_(False)
        model.train()
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        return findings(model, optimizer, lambda: train(model, optimizer), **options)

    with pytest.warns(UserWarning, match="rewrite their buffers: backbone"):
        trained()
    found = trained(buffers=True)
    assert found == [f"buffers-hold-in-eval backbone.{buffer}"]


def test_an_optimizer_that_owns_nothing_that_trains_is_a_warning() -> None:
    model = frozen_net()
    model.backbone[0].weight.requires_grad_(True)  # which is meant to be frozen
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.head = nn.Linear(4, 2)
    with pytest.warns(UserWarning, match=r"\(head.weight, head.bias\), so that nothing trains"):
        findings(model, optimizer, lambda: train(model, optimizer))


def test_a_block_without_a_step_is_a_warning() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="saw no step"):
        findings(model, optimizer, lambda: None)


def test_the_buffers_of_a_norm_are_one_finding_and_a_warning_is_at_the_users_line() -> None:
    model = frozen_net()
    model.backbone.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, buffers=True, collect=True) as watched:
        train(model, optimizer)
    assert [each.name for each in watched.findings] == ["backbone.1.running_mean"]
    said = "the buffers running_mean, running_var, num_batches_tracked of the frozen backbone.1:"
    assert said in str(watched.findings[0])
    with pytest.warns(UserWarning, match="rewrite their buffers") as caught:
        findings(model, optimizer, lambda: train(model, optimizer))
    assert caught[0].filename == __file__


def test_what_trains_though_it_is_meant_to_be_frozen_is_told_once_for_each() -> None:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    found = findings(model, optimizer, lambda: train(model, optimizer))
    assert {each.split()[0] for each in found} == {"frozen-weights-unchanged"}


def test_a_buffer_that_changes_in_eval_mode_is_told() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def change() -> None:
        model.backbone[1].running_mean.add_(1.0)
        train(model, optimizer)

    assert findings(model, optimizer, change) == ["buffers-hold-in-eval backbone.1.running_mean"]


def test_tied_parameters_are_one() -> None:
    model = frozen_net()
    tied = nn.Linear(4, 4)
    tied.weight = model.backbone[2].weight
    model.add_module("tied", tied)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def move() -> None:
        model.backbone[2].weight.data.add_(1)

    found = findings(model, optimizer, move, frozen=["tied.weight"])
    assert found == ["frozen-weights-unchanged backbone.2.weight"]


def test_each_thing_is_collected_once() -> None:
    model = frozen_net()
    optimizer = Leaky(model.parameters(), lr=0.1)
    found = findings(model, optimizer, lambda: train(model, optimizer))
    assert len(found) == len({*found}) == len([*model.backbone.parameters()])


def test_a_gradient_from_before_the_freeze_is_not_blamed_on_backward() -> None:
    """It is told as the reason for which its zeros still move the parameter."""
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, frozen="backbone", collect=True) as watched:
        train(model, optimizer)
        model.backbone.requires_grad_(False)
        for _ in range(2):
            optimizer.zero_grad(set_to_none=False)
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    assert {each.invariant for each in watched.findings} == {"frozen-weights-unchanged"}
    told = [str(each) for each in watched.findings if each.name == "backbone.0.weight"]
    assert len(told) == 2
    assert "it has a gradient" in told[0]
    assert "its gradient is zeros" in told[1]


def test_state_that_is_a_tensor_is_looked_at() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state: dict[Any, Any] = optimizer.state
    state.update({p: torch.zeros(3) for p in model.backbone.parameters()})
    found = findings(model, optimizer, lambda: state[model.backbone[0].weight].add_(1))
    assert found == ["freeze-midway-holds backbone.0.weight"]


def test_a_step_that_raised_does_not_blind_the_watch() -> None:
    model = frozen_net()
    optimizer = Leaky(model.parameters(), lr=0.1)

    def fail() -> Tensor:
        raise ZeroDivisionError

    with frostproof.watch(model, optimizer, collect=True) as watched:
        with pytest.raises(ZeroDivisionError):
            torch.optim.SGD.step(optimizer, fail)
        assert watched.findings == []
        optimizer.step()
    assert watched.steps == 1
    assert len(watched.findings) == len([*model.backbone.parameters()])


def test_every_nth_step_is_looked_at() -> None:
    model = frozen_net()
    optimizer = Leaky(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, every=2, collect=True) as watched:
        train(model, optimizer)
    assert {each.step for each in watched.findings} == {2}


def test_layers_thaw_and_freeze_while_they_are_watched() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, collect=True) as watched:
        train(model, optimizer)
        watched.thaw("backbone.2")
        model.backbone[2].requires_grad_(True)
        train(model, optimizer)
        model.backbone[2].requires_grad_(False)
        optimizer.zero_grad()
        watched.freeze("backbone.2.weight")
        train(model, optimizer)
        assert watched.findings == []
        model.backbone[2].bias.data.add_(1)
        model.backbone[2].weight.data.add_(1)
    assert [each.name for each in watched.findings] == ["backbone.2.weight"]


def test_what_was_thawed_and_frozen_again_may_stay_in_eval_mode(
    recwarn: pytest.WarningsRecorder,
) -> None:
    model = audited.Net(nn.Linear(3, 3), nn.Dropout(0.5))
    model.backbone.requires_grad_(False).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer) as watched:
        watched.thaw("backbone")
        watched.freeze("backbone")
        train(model, optimizer)
    assert not [each for each in recwarn if "eval mode" in str(each.message)]


def test_what_was_thawed_in_eval_mode_is_told() -> None:
    model = audited.Net(nn.Linear(3, 3), nn.Dropout(0.5))
    model.backbone.requires_grad_(False).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer) as watched:
        train(model, optimizer)
        watched.thaw("backbone")
        model.backbone.requires_grad_(True)
        with pytest.warns(UserWarning, match=r"thawed has modules in eval mode \(backbone.1\)"):
            train(model, optimizer)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("head", "it is not watched as frozen"), (nn.Linear(1, 1), "as thaw\\('backbone'\\)")],
)
def test_what_cannot_be_thawed_is_one_line(pattern: Any, says: str) -> None:
    model = audited.Net()
    model.backbone.requires_grad_(False)
    with frostproof.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as watched:
        with pytest.raises(UsageError, match=says):
            watched.thaw(pattern)
        train(model, watched.optimizers[0])


def test_layers_may_require_grad_before_they_thaw() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer) as watched:
        train(model, optimizer)
        model.backbone[2].requires_grad_(True)
        watched.thaw("backbone.2")
        train(model, optimizer)
        model.backbone[0].requires_grad_(True)
        watched.freeze("backbone.2")  # A call for backbone.0 may follow.
        with pytest.raises(ViolationError, match=r"backbone\.0\.weight: its requires_grad was"):
            train(model, optimizer)


@pytest.mark.parametrize(
    ("owned", "required", "said"),
    [
        ("head", True, "no optimizer owns it: give it to one by add_param_group()"),
        ("all", False, "its requires_grad is False: call requires_grad_(True)"),
    ],
)
def test_what_was_thawed_and_does_not_train_is_told(owned: str, required: bool, said: str) -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD((model if owned == "all" else model.head).parameters(), lr=0.1)
    with frostproof.watch(model, optimizer) as watched:
        watched.thaw("backbone.2")
        model.backbone[2].requires_grad_(required)
        with pytest.raises(ViolationError) as caught:
            train(model, optimizer)
    text = "thaw-resumes: at step 1: backbone.2.weight was thawed, and does not train, because "
    assert str(caught.value).startswith(text + said)


class KnowsFirst(torch.optim.SGD):
    """Trains for ever what has a gradient in its first step, and nothing else."""

    def step(self, closure: Any = None) -> Any:
        owned = [p for group in self.param_groups for p in group["params"]]
        known = vars(self).setdefault("known", {p for p in owned if p.grad is not None})
        kept = {p: p.grad for p in owned if p not in known}
        for p in kept:
            p.grad = None
        super().step()
        for p, grad in kept.items():
            p.grad = grad


@pytest.mark.parametrize(("steps", "lr", "found"), [(10, 0.1, 2), (9, 0.1, 0), (20, 0.0, 0)])
def test_what_was_thawed_and_never_moves_is_told(steps: int, lr: float, found: int) -> None:
    model = frozen_net()
    optimizer = KnowsFirst(model.parameters(), lr=lr)
    with frostproof.watch(model, optimizer, collect=True) as watched:
        train(model, optimizer)
        watched.thaw("backbone.2")
        model.backbone[2].requires_grad_(True)
        train(model, optimizer, steps)
    assert len(watched.findings) == found
    for each in watched.findings:
        assert each.invariant == "thaw-resumes"
        assert each.message == (
            f"{each.name} was thawed, and has not moved since, though it had a gradient in 10 "
            "steps: see what `frostproof check` says of the optimizer"
        )


@pytest.mark.parametrize("compiled", [False, True])
def test_what_was_thawed_and_gets_no_gradient_is_told(compiled: bool) -> None:
    """In a model that does not use it, or one whose graph was made while it was frozen."""
    model = frozen_net()
    unused = nn.Linear(3, 3).requires_grad_(False)
    model.backbone.append(unused)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.backbone.forward = lambda x: model.backbone[2](model.backbone[1](model.backbone[0](x)))
    called: Any = torch.compile(model, backend="aot_eager") if compiled else model
    with frostproof.watch(model, optimizer) as watched:
        train(called, optimizer)
        watched.thaw("backbone.0", "backbone.3")
        model.backbone[0].requires_grad_(True)
        unused.requires_grad_(True)
        train(called, optimizer, 9)
        with pytest.warns(UserWarning, match="got no gradient in 10 steps") as told:
            train(called, optimizer, 1)
        train(called, optimizer, 10)
    (warning,) = told
    stale = compiled and not torch_is(">=2.12")
    names = [f"backbone.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")]
    assert [name in str(warning.message) for name in names] == [stale, stale, True, True]
    assert ("compiled while" in str(warning.message)) != torch_is(">=2.12")


def test_a_training_may_begin_with_nothing_frozen() -> None:
    model = Net()
    optimizer = Hidden(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, frozen=[], collect=True) as watched:
        train(model, optimizer)
        model.backbone.requires_grad_(False).eval()
        for parameter in model.backbone.parameters():
            parameter.grad = None
        watched.freeze("backbone")
        train(model, optimizer, 1)
    assert {each.step for each in watched.findings} == {4}
    with (
        pytest.warns(UserWarning, match="nothing to watch: it began with frozen="),
        frostproof.watch(model, optimizer, frozen=[]),
    ):
        train(model, optimizer, 1)


def test_findings_that_are_alike_are_printed_in_one_line() -> None:
    model = frozen_net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with frostproof.watch(model, optimizer, collect=True) as watched:
        train(model, optimizer, 1, set_to_none=False)
    first, *rest = str(watched).splitlines()
    assert first == "1 step, 6 findings, 6 frozen parameters"
    names = "backbone.0.weight, backbone.0.bias, backbone.1.weight, backbone.1.bias and 2 more"
    (line,) = rest
    assert f"step() moved the frozen parameter {names}: its gradient is zeros" in line


def test_norms_that_go_back_to_train_mode_are_printed_in_one_line() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    model[2].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, collect=True, buffers=True) as watched:
        train(model, optimizer, 1)
    (line,) = str(watched).splitlines()[1:]
    assert "running_mean, running_var, num_batches_tracked of the frozen 0, 2: call" in line


def test_warnings_are_kept_and_printed() -> None:
    model = frozen_net()
    model.backbone.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(UserWarning, match="rewrite their buffers") as warned,
        frostproof.watch(model, optimizer) as watched,
    ):
        train(model, optimizer, 1)
    (text,) = watched.warnings
    assert [str(each.message) for each in warned] == [text]
    assert str(watched).splitlines() == [
        "1 step, 0 findings, 1 warning, 6 frozen parameters",
        f"warning: {text}",
    ]


def test_what_thawed_is_printed_with_whether_it_moved() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, ["!head"], collect=True) as watched:
        train(model, optimizer, 1)
        model.backbone[0].requires_grad_(True)
        watched.thaw("backbone.0")
        train(model, optimizer, 1)
        watched.thaw("backbone.1.bias")
        steps, *thawed = str(watched).splitlines()[:3]
    assert steps.endswith("3 frozen parameters")
    assert thawed == [
        "thawed and moved since: 2 parameters of backbone.0",
        "thawed and not moved yet: 1 parameter of backbone.1",
    ]


def test_a_gradient_that_nothing_clears_is_a_warning() -> None:
    """It counts in clip_grad_norm_(model.parameters()), though it moves nothing."""
    for clears in (False, True):
        model = Net()
        model(torch.randn(5, 3)).square().mean().backward()
        for parameter in model.backbone.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None if clears else parameter.grad
        model.backbone.eval()
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        with (
            pytest.warns(UserWarning, match="keep a gradient") if not clears else nullcontext(),
            frostproof.watch(model, optimizer) as watched,
        ):
            train(model, optimizer, 2)
        assert len(watched.warnings) == (not clears)
        assert not watched.findings


def test_a_flag_that_was_forgotten_is_told_and_nothing_else(recwarn: Any) -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, collect=True) as watched:
        watched.thaw("backbone.0")
        train(model, optimizer, 12)
    assert {each.invariant for each in watched.findings} == {"thaw-resumes"}
    assert not [each for each in watched.warnings if "got no gradient" in each]


def test_the_name_of_a_parameter_is_not_looked_for_within_words() -> None:
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    optimizer = Hidden(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, collect=True) as watched:
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    (line,) = str(watched).splitlines()[1:]
    said = "step(), or something before it, wrote to .data and moved the frozen parameter weight:"
    assert line.startswith(f"frozen-weights-unchanged: at step 1: {said} ")


def test_a_compiled_model_is_watched_by_the_names_of_the_model_in_it() -> None:
    model: Any = torch.compile(frozen_net(), backend="eager")
    optimizer = Hidden(model.parameters(), lr=0.1)
    found = findings(model, optimizer, lambda: train(model, optimizer, 1))
    assert "frozen-weights-unchanged _orig_mod.backbone.0.weight" in found


def test_what_was_thawed_and_frozen_again_need_not_train() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer) as watched:
        watched.thaw("backbone.2")
        watched.freeze("backbone.2")
        train(model, optimizer)


def test_a_forgotten_thaw_is_the_reason_that_is_told() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def unfreeze_and_train() -> None:
        model.backbone[2].requires_grad_(True)
        train(model, optimizer)

    text = message(model, optimizer, unfreeze_and_train)
    assert "its requires_grad was set to True; thaw() it here if it is to train" in text


def test_a_forgotten_thaw_is_told_of_what_was_frozen_inside_the_block_too() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def freeze_and_unfreeze() -> None:
        model.backbone.requires_grad_(False)
        train(model, optimizer)
        model.backbone[2].requires_grad_(True)
        train(model, optimizer)

    text = message(model, optimizer, freeze_and_unfreeze, frozen=["backbone"])
    assert "its requires_grad was set to True; thaw() it here if it is to train" in text


def test_patterns_may_be_given_in_a_list() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer, frozen=["backbone"]) as watched:
        watched.thaw(["backbone.1", "backbone.2"])
        model.backbone[1:].requires_grad_(True)
        train(model, optimizer)


def test_a_parameter_that_is_replaced_by_one_that_trains_is_not_blamed_on_the_optimizer() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)

    def replace_and_train() -> None:
        model.backbone[2].weight = nn.Parameter(model.backbone[2].weight.detach().clone())
        train(model, optimizer)

    text = message(model, optimizer, replace_and_train)
    assert "another parameter, which requires grad, took the place of the frozen backbone.2" in text


def test_an_optimizer_that_is_built_later_is_watched_too() -> None:
    model = frozen_net()
    first = torch.optim.SGD(model.head.parameters(), lr=0.1)
    other = Net()
    with frostproof.watch(model, first) as watched:
        train(model, first)
        train(other, torch.optim.SGD(other.parameters(), lr=0.1))  # somebody else's
        assert watched.steps == 3
        with pytest.raises(ViolationError, match=r"at step 4: step\(\) moved the frozen"):
            train(model, Leaky(model.parameters(), lr=0.1))
        watched.stop()
    train(model, Leaky(model.parameters(), lr=0.1))
    assert watched.steps == 4


def test_a_compiled_step_is_watched() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sound = torch.compile(optimizer.step, backend="eager")
    leaky = torch.compile(Leaky(model.parameters(), lr=0.1).step, backend="eager")

    def train_by(step: Any) -> None:
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        step()

    with frostproof.watch(model, optimizer) as watched:
        for number in range(1, 4):
            train_by(sound)
            assert watched.steps == number
        with pytest.raises(ViolationError, match=r"at step 4: step\(\) moved the frozen"):
            train_by(leaky)
        watched.stop()


def test_several_optimizers_are_watched() -> None:
    model = frozen_net()
    first = torch.optim.SGD(model.head.parameters(), lr=0.1)
    second = Leaky(model.backbone.parameters(), lr=0.1)
    found = findings(model, [first, second], second.step)
    assert found[0] == "frozen-weights-unchanged backbone.0.weight"


def _wrong() -> Iterable[tuple[dict[str, Any], str]]:
    yield {"frozen": ["backbon.*"]}, "frozen 'backbon.*' matches no parameter: there are backbone.0"
    yield {}, "nothing is frozen: give frozen="
    yield {"frozen": "head", "every": 0}, "every is 0"
    yield {"frozen": "head", "optimizer": [object()]}, "object tells nobody of its steps"
    yield {"frozen": torch.nn.Linear(1, 1)}, "frozen has an object in it"
    yield {"frozen": [torch.nn.Linear(1, 1)]}, "frozen has an object in it"
    yield {"frozen": "head", "optimizer": None}, "NoneType tells nobody of its steps"
    other = torch.optim.SGD(Net().parameters(), lr=0.1)
    yield {"frozen": "head", "optimizer": other}, "the optimizer owns no parameter of this model"


@pytest.mark.parametrize(("given", "said"), [*_wrong()])
def test_wrong_use_is_told_in_one_line(given: dict[str, Any], said: str) -> None:
    model = Net()
    optimizer = given.pop("optimizer", torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(UsageError) as caught:
        watch(model, optimizer, **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_watching_does_without_hypothesis() -> None:
    code = "import sys, frostproof; frostproof.watch; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (3, 5), (2 * WIDTH + 3,), (70, 71), (2, 3, 65, 9)]
)
def test_any_single_bit_changes_a_digest(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = torch.randn(shape).to(dtype)
    before = digest([tensor])
    assert changed(before, digest([tensor.clone()])) == []
    flat = tensor.view(-1).view(torch.uint8)
    for i in torch.randint(flat.numel(), (20,)).tolist():
        flat[i] ^= 4
        assert changed(before, digest([tensor])) == [0]
        flat[i] ^= 4


def test_rows_that_change_places_change_a_digest() -> None:
    tensor = torch.randn(64, WIDTH + 3)
    assert changed(digest([tensor]), digest([tensor.roll(1, 0)])) == [0]
    tensor = torch.randn(64, 2048)
    assert changed(digest([tensor]), digest([tensor.flip(0)])) == [0]


def test_other_layouts_have_digests() -> None:
    channels_last = torch.randn(2, 3, 20, 30).to(memory_format=torch.channels_last)
    slices = torch.randn(30, 80)[:, 3:70]
    sparse = torch.eye(4).to_sparse()
    before = digest([channels_last, slices, sparse, torch.randn(5)[1:]])
    channels_last[1, 2, 3, 4] += 1
    slices[2, 2] += 1
    after = digest([channels_last, slices, sparse, torch.randn(5)[1:]])
    assert changed(before, after) == [0, 1, 3]


distributed: Any = torch.distributed
SHARDED = ("0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias")


@pytest.fixture(name="alone")
def world_of_one(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("optimizing", "expected"),
    [
        (torch.optim.AdamW, []),
        (Hidden, [f"frozen-weights-unchanged backbone.{i}" for i in SHARDED]),
    ],
)
def test_a_sharded_model_is_watched_by_its_shards(optimizing: Any, expected: list[str]) -> None:
    model = frozen_net()
    model.train()
    fully_shard(model, mesh=distributed.init_device_mesh("cpu", (1,)))
    optimizer = optimizing(model.parameters(), lr=0.1)
    # A comparison of DTensors would wait for the other ranks, which may have raised.
    with mock.patch.object(distributed, "all_reduce", side_effect=AssertionError):
        found = findings(model, optimizer, lambda: train(model, optimizer))
    assert sorted(found) == sorted(expected)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("anew", [False, True])
def test_what_thaws_in_a_wrapper_that_was_built_before_is_told(anew: bool) -> None:
    model = frozen_net()
    wrapped = [nn.parallel.DistributedDataParallel(model)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train_wrapped() -> None:
        train(wrapped[0], optimizer, 2)

    with frostproof.watch(model, optimizer, collect=True) as watched:
        train_wrapped()
        watched.thaw("backbone.2")
        model.backbone[2].requires_grad_(True)
        if anew:
            wrapped[:] = [nn.parallel.DistributedDataParallel(model)]
        train_wrapped()
    told = [(each.invariant, each.name, each.step) for each in watched.findings]
    names = [] if anew else ["backbone.2.weight", "backbone.2.bias"]
    assert told == [("ranks-agree", name, 3) for name in names]


@pytest.mark.usefixtures("alone")
def test_what_a_wrapper_is_told_to_ignore_may_train_by_itself() -> None:
    model = frozen_net()
    wrapper: Any = nn.parallel.DistributedDataParallel
    wrapper._set_params_and_buffers_to_ignore_for_model(
        model, ["backbone.2.weight", "backbone.2.bias"]
    )
    wrapped = wrapper(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer) as watched:
        watched.thaw("backbone.2")
        model.backbone[2].requires_grad_(True)
        train(wrapped, optimizer, 2)


def test_a_mask_may_change_in_several_calls_after_the_flags() -> None:
    model = frozen_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with frostproof.watch(model, optimizer) as watched:
        train(model, optimizer, 1)
        model.backbone.requires_grad_(True)
        model.head.requires_grad_(False)
        model.head.zero_grad()
        watched.freeze("head")
        watched.thaw("backbone.0")
        watched.thaw("backbone.1", "backbone.2")
        train(model, optimizer, 1)
