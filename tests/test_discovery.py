"""Discovery finds how an optimizer is built and stepped; what is used rightly is never flagged, what leaks is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from frostproof.discovery import subjects
from frostproof.fence import fenced
from frostproof.probe import Unusable, probe
from frostproof.subject import Subject
from frostproof.verification import Verification
from tests.protocols import PROTOCOLS, Fused, Keyed, Named, Plain, Sam, SecondOrder, WarmsUp
from tests.search import flagged, search


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
    unexpected = flagged(verification)
    if optimizer is Sam:
        unexpected.pop("no-state-for-frozen", None)
    assert not unexpected
    assert verification.trials > 50


def leaky(optimizer: type[Any]) -> type[Any]:
    """The same optimizer, which decays everything that it owns at each step, or each backward pass."""

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


@pytest.mark.parametrize("optimizer", [Sam, SecondOrder, Fused, Named, Keyed, WarmsUp], ids=lambda optimizer: optimizer.__name__)
def test_a_leak_is_found_however_it_is_used(optimizer: type[Optimizer]) -> None:
    verification = Verification(subjects(leaky(optimizer))[0], "cpu")
    search(verification, seed=1, wanted="frozen-weights-unchanged")
    assert verification.tallies["frozen-weights-unchanged"].violated


def test_what_does_not_work_is_not_drawn() -> None:
    class Picky(Plain):
        def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0, maximize: float = 0.5) -> None:
            if weight_decay > 0.05:
                raise ValueError("too much decay")
            super().__init__(params, lr)

    space = probed(Picky).space
    assert isinstance(space, tuple)
    drawn = {name: [value for options in choice for key, value in options if key == name] for choice in space for name, _ in choice[0]}
    assert drawn["weight_decay"] == [0.0, 0.01]
    assert "maximize" not in drawn  # a number here, and a switch where it is known


def test_what_cannot_be_run_says_what_it_needs() -> None:
    class Needy(Plain):
        def __init__(self, params: Any, teacher: Any) -> None:
            super().__init__(params)

    with pytest.raises(Unusable, match="needs teacher: register a Subject"):
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

    with pytest.raises(Unusable, match="calls its closure with gradients disabled"):
        probed(Blind)


def test_groups_that_keep_count_are_no_violation() -> None:
    class CountsPerGroup(Plain):
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            for group in self.param_groups:
                group["count"] = group.get("count", 0) + 1
            return super().step(closure)

        def update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
            parameter.add_(gradient, alpha=-group["lr"] / group["count"])

    verification = Verification(subjects(CountsPerGroup)[0], "cpu")
    for seed in range(3):
        search(verification, seed)
    assert not flagged(verification)
    assert verification.partings["a group, or an optimizer, counts steps since it came"]


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

    from frostproof.finding import finding

    verification = Verification(subjects(ByPlace)[0], "cpu")
    search(verification, seed=1, wanted="trainable-updates-match")
    row = finding(verification).row
    assert row.facts["depends-on-order"] is True
    assert any("depend on the order" in (each.message or "") for each in row.invariants if each.status == "violated")

    declared = Verification(subjects(ByPlace, positional="each place has a rate of its own")[0], "cpu")
    search(declared, seed=1)
    assert not flagged(declared)
