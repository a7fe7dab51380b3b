"""The probe finds what an optimizer can do with nothing frozen, and why one cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from frostproof.errors import UnusableError
from frostproof.optimizers import measurements
from frostproof.optimizers import probe as probing
from frostproof.optimizers.discovery import subjects
from frostproof.optimizers.nothing_frozen import fault_of
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.subject import Subject
from frostproof.verification.verification import Verification
from tests.helpers.protocols import (
    Fused,
    Keyed,
    Moded,
    Plain,
    Sam,
    World,
    Wrapping,
)
from tests.helpers.search import flagged, search
from tests.optimizers.test_discovery import probed


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

    def noted(subject: Subject, *rest: Any, **more: Any) -> Any:
        tried.append(subject.dtypes[0])
        return fault_of(subject, *rest, **more)

    monkeypatch.setattr(probing, "fault_of", noted)
    with pytest.raises(UnusableError, match="moves no parameter in 24 steps"):
        probed(Idle)
    assert {*tried} == {"float32"}


def test_what_works_at_once_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneOption(Plain):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr)

    found = probed(OneOption)
    tried: list[Subject] = []

    def counted(subject: Subject, *rest: Any, **more: Any) -> Any:
        tried.append(subject)
        return fault_of(subject, *rest, **more)

    for module in (probing, measurements):
        monkeypatch.setattr(module, "fault_of", counted)
    probe.cache_clear()
    assert probed(OneOption).takes == found.takes
    plain = [each for each in tried if not each.arguments and each.dtypes[0] == "float32"]
    assert len(tried) == len(plain)
    # The first way, two groups, two more dtypes, parameters without elements, three learning rates,
    # the simplest of all, and two groups that state these.
    assert len(tried) == 1 + 1 + 2 + 1 + 4 + 1


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


def test_groups_that_decide_nothing_are_not_edited() -> None:
    class OwnList(Plain):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr)
            self.every = self.owned

        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            loss = closure() if closure is not None else None
            for parameter in self.every:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=0.1)
            return loss

    class Sorts(Plain):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(sorted(params, key=lambda each: each.numel(), reverse=True), lr)

    class SortsMatrices(Keyed):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr)
            for group in self.param_groups:
                group["params"] = sorted(group["params"], key=lambda each: each.shape)

    assert not probed(OwnList).per_parameter
    assert not probed(Sorts).per_parameter
    assert not probed(SortsMatrices).per_parameter
    assert probed(Keyed).per_parameter
    assert probed(Plain).per_parameter


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
            teacher.eval()
            super().__init__(params)

    with pytest.raises(UnusableError, match="needs teacher: register a Subject"):
        probed(Needy)


def test_a_closure_without_gradients_is_named_as_the_reason() -> None:
    class Blind(Plain):
        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            if closure is None:
                raise ValueError("needs a closure")
            self.zero_grad()
            loss = closure()
            super().step()
            return loss

    with pytest.raises(UnusableError, match="calls its closure with gradients disabled"):
        probed(Blind)


def test_a_stated_value_with_which_it_raises_is_left_out_and_told() -> None:
    class Warms(Plain):
        def __init__(self, params: Any, lr: float = 0.1, warmup: int = 4) -> None:
            super().__init__(params, lr)
            self.param_groups[0]["warmup"] = self.defaults["warmup"] = warmup

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            for group in self.param_groups:
                1 / group["warmup"]
            return super().step(closure)

    space = (((("lr", 0.1),),), ((("warmup", 4),), (("warmup", 0),), (("warmup", 2),)))
    with fenced("cpu"):
        found = probe(Subject("mylib:Warms", Warms, space=space), "cpu")
    assert found.space == (space[0], (space[1][0], space[1][2]))
    assert found.coupled is None
    (reason,) = found.not_tried
    assert reason == "warmup=0: with nothing frozen it raises ZeroDivisionError: division by zero"


def test_a_distance_of_all_parameters_is_found_though_it_hardly_moves_them_at_first() -> None:
    class Faint(Plain):
        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            every = [
                p for group in self.param_groups for p in group["params"] if p.grad is not None
            ]
            distance = 1e-12 * sum(float(p.grad.sum()) for p in every)
            for p in every:
                p.add_(distance * p.grad)
            return super().step(closure)

    assert (
        probed(Faint).coupled == "with nothing frozen, one parameter changes what another one does"
    )
