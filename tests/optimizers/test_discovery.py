"""Discovery finds how an optimizer is built and stepped, so that only leaks are flagged."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from frostproof.errors import UnusableError, UsageError
from frostproof.optimizers import probe as probing
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.probe import probe
from frostproof.optimizers.targets import exists_on
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject
from frostproof.verification.verification import Verification
from tests.helpers.protocols import (
    PROTOCOLS,
    Fused,
    Keyed,
    Moded,
    Named,
    OneDtype,
    OnlyCapturable,
    Plain,
    Sam,
    SecondOrder,
    TwoLists,
    WarmsUp,
    World,
    Wrapping,
)
from tests.helpers.search import flagged, search


def probed(optimizer: Any) -> Subject:
    with fenced("cpu"):
        return probe(subjects(optimizer)[0], "cpu")


@pytest.mark.parametrize("optimizer", PROTOCOLS, ids=lambda optimizer: optimizer.__name__)
def test_discovery_finds_how_it_is_used(optimizer: type[Optimizer]) -> None:
    found = probed(optimizer)
    assert {name: getattr(found, name) for name in PROTOCOLS[optimizer]} == PROTOCOLS[optimizer]


@pytest.mark.parametrize("optimizer", PROTOCOLS, ids=lambda optimizer: optimizer.__name__)
def test_what_is_used_in_its_own_way_is_not_flagged(optimizer: type[Optimizer]) -> None:
    verification = Verification(subjects(optimizer)[0], "cpu")
    search(verification, seed=1)
    assert not flagged(verification)
    assert verification.trials > 50


def leaky(optimizer: type[Any]) -> type[Any]:
    """The same optimizer, which also decays all its parameters at each step or backward pass."""

    class Leaky(optimizer):  # type: ignore[misc]
        def leak(self) -> None:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.mul_(0.9)

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            loss = super().step(closure)
            self.leak()
            return loss

        def fused_backward(self, loss: Tensor, lr: float) -> None:
            super().fused_backward(loss, lr)
            self.leak()

    if not hasattr(optimizer, "fused_backward"):
        del Leaky.fused_backward
    return Leaky


@pytest.mark.parametrize(
    "optimizer",
    [Sam, SecondOrder, Fused, Named, Keyed, WarmsUp, Moded, OneDtype, TwoLists, World],
    ids=lambda optimizer: optimizer.__name__,
)
def test_a_leak_is_found_however_it_is_used(optimizer: type[Optimizer]) -> None:
    verification = Verification(subjects(leaky(optimizer))[0], "cpu")
    search(verification, seed=1, wanted="frozen-weights-unchanged")
    assert verification.tallies["frozen-weights-unchanged"].violated


def test_torch_keeps_its_variants() -> None:
    usual = ("forloop", "foreach", "capturable", "differentiable")
    fused = ("forloop", "foreach", "fused", "capturable", "differentiable")
    expected = {
        "ASGD": usual,
        "Adadelta": usual,
        "Adafactor": ("forloop", "foreach"),
        "Adagrad": ("forloop", "foreach", "fused", "differentiable"),
        "Adam": fused,
        "AdamW": fused,
        "Adamax": usual,
        "LBFGS": ("default", "strong_wolfe"),
        "Muon": ("default",),
        "NAdam": usual,
        "RAdam": usual,
        "RMSprop": usual,
        "Rprop": usual,
        "SGD": ("forloop", "foreach", "fused", "differentiable"),
        "SparseAdam": ("default",),
    }
    assert {
        name: tuple(each.variant for each in subjects(getattr(torch.optim, name)))
        for name in expected
    } == expected


@pytest.mark.parametrize(
    ("argument", "variants"),
    [("capturable", ["default", "capturable"]), ("fused", ["default", "fused"])],
)
def test_there_is_always_a_plain_variant(argument: str, variants: list[str]) -> None:
    class Switched(Plain):
        __signature__ = signature(OnlyCapturable).replace(
            parameters=[
                Parameter("params", Parameter.POSITIONAL_OR_KEYWORD),
                Parameter(argument, Parameter.KEYWORD_ONLY, default=False),
            ]
        )

    found = subjects(Switched)
    assert [each.variant for each in found] == variants
    assert [dict(each.arguments) for each in found] == [{}, {argument: True}]
    assert exists_on(found[0], "cpu")
    assert exists_on(found[0], "meta")


def test_an_implementation_that_is_not_chosen_exists_everywhere() -> None:
    assert exists_on(Subject("mylib:Plain", Plain, arguments={"capturable": False}), "cpu")
    assert not exists_on(Subject("mylib:Plain", Plain, arguments={"capturable": True}), "cpu")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_one_dtype_is_found_with_whatever_else_is_needed(dtype: str) -> None:
    class Particular(Plain):
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            owned = [parameter for group in self.param_groups for parameter in group["params"]]
            if any(parameter.ndim != 2 for parameter in owned):
                raise ValueError("matrices only")
            assert all(parameter.dtype == getattr(torch, dtype) for parameter in owned)
            return super().step(closure)

    found = probed(Particular)
    assert (found.parameters, found.dtypes) == ("matrices", (dtype,))
    with fenced("cpu"):
        by_hand = probe(Subject("mylib:Particular", Particular), "cpu")
    assert (by_hand.parameters, by_hand.dtypes) == ("matrices", (dtype,))


def test_what_steps_without_effect_is_not_tried_in_other_dtypes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Idle(Plain):
        def update(
            self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
        ) -> None:
            pass

    tried: list[str] = []
    fault = probing._fault

    def noted(subject: Subject, *rest: Any, **more: Any) -> Any:
        tried.append(subject.dtypes[0])
        return fault(subject, *rest, **more)

    monkeypatch.setattr(probing, "_fault", noted)
    with pytest.raises(UnusableError, match="moves no parameter in 24 steps"):
        probed(Idle)
    assert {*tried} == {"float32"}


def test_what_works_at_once_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probed(Plain)
    tried: list[Subject] = []

    def counted(subject: Subject, *rest: Any, **more: Any) -> Any:
        tried.append(subject)
        return fault(subject, *rest, **more)

    fault = probing._fault
    monkeypatch.setattr(probing, "_fault", counted)
    probe.cache_clear()
    assert probed(Plain).takes == found.takes
    plain = [each for each in tried if not each.arguments and each.dtypes[0] == "float32"]
    assert len(tried) == len(plain)
    assert (
        len(tried) == 1 + 1 + 2 + 4
    )  # the first way, two groups, two more dtypes, three learning rates and the simplest of all


def test_a_process_group_is_missed_wherever_it_is_asked_for() -> None:
    class Builds(Plain):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr / torch.distributed.get_world_size())

    class Saves(Plain):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "rank": torch.distributed.get_rank()}

    for optimizer in (Builds, Saves):
        found = probed(optimizer)
        assert found.distributed
        assert found.unable == ()
    assert not torch.distributed.is_initialized()
    with fenced("cpu"):
        assert probe(Subject("mylib:World", World), "cpu").distributed


def test_numbers_are_given_where_nothing_else_works() -> None:
    class DoesWithout(Plain):
        def __init__(self, params: Any, lr: float = 0.1, total_steps: int | None = None) -> None:
            super().__init__(params, lr)

    class NeedsMore(Plain):
        def __init__(self, params: Any, lr: float = 0.1, total_steps: int | None = None) -> None:
            super().__init__(params, lr)
            if total_steps is None:
                raise ValueError("how many steps?")
            if any("use_muon" not in group for group in self.param_groups):
                raise ValueError("use_muon must be set")

    class Asks(Plain):
        def __init__(self, params: Any, epochs: int, steps_per_epoch: int) -> None:
            super().__init__(params, 10 / (epochs * steps_per_epoch))

    assert probed(DoesWithout).arguments == {}
    assert probed(NeedsMore).arguments == {"total_steps": 100}
    assert probed(NeedsMore).keys is not None
    assert probed(Asks).arguments == {"epochs": 10, "steps_per_epoch": 10}


def test_two_lists_are_told_by_their_names() -> None:
    class Swapped(Plain):
        def __init__(self, adamw_params: Any, muon_params: Any) -> None:
            super().__init__([*muon_params, *adamw_params])

    class Optional(Plain):
        def __init__(self, params: Any, other_params: Any = None) -> None:
            super().__init__(params)

    class Teaches(Plain):
        def __init__(self, params: Any, teacher_params: Any) -> None:
            super().__init__(params)

    assert subjects(Swapped)[0].needs == ("muon_params",)
    assert (
        subjects(TwoLists, takes="parameters", arguments={"adamw_params": []})[0].takes
        == "parameters"
    )
    assert subjects(Optional)[0].takes == "parameters"
    with pytest.raises(UnusableError, match="moves nothing of one of its two lists"):
        probed(Teaches)
    with pytest.raises(UsageError, match="give groups=False and per_parameter=False"):
        Subject("mylib:TwoLists", TwoLists, takes="two-lists")


def test_modes_are_found_on_what_is_built() -> None:
    def made(params: Any, lr: float = 0.1) -> Optimizer:
        return Moded(params, lr)

    assert subjects(Moded)[0].modes
    assert not subjects(made)[0].modes
    assert probed(made).modes
    with fenced("cpu"):
        for factory in (Moded, made):
            assert probe(Subject("mylib:made", factory), "cpu").modes
        assert not probe(Subject("mylib:Plain", Plain), "cpu").modes


def test_modes_that_raise_are_none() -> None:
    class Delegates(Wrapping):
        def train(self) -> None:
            self.optimizer.train()  # type: ignore[attr-defined]

        def eval(self) -> None:
            self.optimizer.eval()  # type: ignore[attr-defined]

    assert subjects(Delegates)[0].modes
    assert not probed(Delegates).modes


def test_what_a_function_builds_is_looked_at() -> None:
    class Bare(Plain):
        def step(self) -> Any:  # type: ignore[override]
            return super().step()

        def zero_grad(self) -> None:  # type: ignore[override]
            super().zero_grad()

    def bare(params: Any, lr: float = 0.1) -> Optimizer:
        return Bare(params, lr)

    def climbing(params: Any) -> Optimizer:
        return Sam(params)

    def fused(model: Any) -> Optimizer:
        return Fused(model)

    for subject in (*subjects(bare), Subject("mylib:bare", bare), Subject("mylib:Bare", Bare)):
        with fenced("cpu"):
            found = probe(subject, "cpu")
        assert found.closure == "never"
        assert found.unable == ("set_to_none",)
    assert probed(climbing).closure == "after-backward"
    assert probed(fused).backward == "fused"
    verification = Verification(subjects(bare)[0], "cpu")
    search(verification, seed=1)
    assert not flagged(verification)


def test_what_does_not_work_is_not_drawn() -> None:
    class Picky(Plain):
        def __init__(
            self, params: Any, lr: float = 0.1, weight_decay: float = 0.0, maximize: float = 0.5
        ) -> None:
            if weight_decay > 0.05:
                raise ValueError("too much decay")
            super().__init__(params, lr)

    space = probed(Picky).space
    assert isinstance(space, tuple)
    drawn = {
        name: [value for options in choice for key, value in options if key == name]
        for choice in space
        for name, _ in choice[0]
    }
    assert drawn["weight_decay"] == [0.0, 0.01]
    assert "maximize" not in drawn  # a number here, and a switch where it is known


def test_what_cannot_be_run_says_what_it_needs() -> None:
    class Needy(Plain):
        def __init__(self, params: Any, teacher: Any) -> None:
            super().__init__(params)

    with pytest.raises(UnusableError, match="needs teacher: register a Subject"):
        probed(Needy)


def test_a_closure_without_gradients_is_named_as_the_reason() -> None:
    class Blind(Plain):
        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            if closure is None:
                raise ValueError("needs a closure")
            loss = closure()
            super().step()
            return loss

    with pytest.raises(UnusableError, match="calls its closure with gradients disabled"):
        probed(Blind)


def test_groups_that_keep_count_are_no_violation() -> None:
    class CountsPerGroup(Plain):
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            for group in self.param_groups:
                group["count"] = group.get("count", 0) + 1
            return super().step(closure)

        def update(
            self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
        ) -> None:
            parameter.add_(gradient, alpha=-group["lr"] / group["count"])

    verification = Verification(subjects(CountsPerGroup)[0], "cpu")
    for seed in range(3):
        search(verification, seed)
    assert not flagged(verification)
    assert verification.partings["late-group-counts-differently"]


def test_dependence_on_order_is_told_apart() -> None:
    class ByPlace(Plain):
        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            loss = super().step(closure)
            for group in self.param_groups:
                for place, parameter in enumerate(group["params"]):
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-0.1 * place)
            return loss

    from frostproof.verification.item_report import finding

    verification = Verification(subjects(ByPlace)[0], "cpu")
    search(verification, seed=1, wanted="trainable-updates-match")
    row = finding(verification).row
    assert row.facts["depends-on-order"] is True
    assert any(
        "depend on the order" in (each.message or "")
        for each in row.invariants
        if each.status == "violated"
    )

    declared = Verification(
        subjects(ByPlace, positional="each place has a rate of its own")[0], "cpu"
    )
    search(declared, seed=1)
    assert not flagged(declared)
