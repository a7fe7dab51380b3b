"""Facts of torch: a scheduler, and a parameter group that is added to its optimizer later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, lr_scheduler

from frostproof.optimizers.torch_version import torch_is
from frostproof_properties.facts import BRIEF, FACT

Make = Callable[[SGD], Any]
FOLLOWS: dict[str, Make] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 3]),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "PolynomialLR": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 10),
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    "ChainedScheduler": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ExponentialLR(optimizer, 0.9)]
    ),
    "ConstantLR": lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.5, 100),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 10),
}
SHORT = r"zip\(\) argument 2 is shorter than argument 1"
RAISES: dict[str, tuple[Make, type[Exception], str]] = {
    "LambdaLR": (
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step),
        ValueError,
        SHORT,
    ),
    "MultiplicativeLR": (
        lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda _: 0.9),
        ValueError,
        r"zip\(\) argument 2 is longer than argument 1",
    ),
    "CyclicLR": (lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1), ValueError, SHORT),
    "CosineAnnealingWarmRestarts": (
        lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10),
        ValueError,
        SHORT,
    ),
    "SequentialLR": (
        lambda optimizer: lr_scheduler.SequentialLR(
            optimizer,
            [
                lr_scheduler.ExponentialLR(optimizer, 0.9),
                lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step),
            ],
            [1],
        ),
        ValueError,
        SHORT,
    ),
    "OneCycleLR": (
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, 100),
        KeyError,
        "initial_lr",
    ),
}


def _step(scheduler: Any) -> None:
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(1.0)
    else:
        scheduler.step()


def _started(make: Make, steps: int, lr: float) -> tuple[SGD, Any]:
    """Return an optimizer and its scheduler after `steps` steps, and a second group added then.

    The new group has the rate `lr`, or that of the first group if `lr` is 0.
    """
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    for _ in range(steps):
        optimizer.step()
        _step(scheduler)
    optimizer.add_param_group(
        {"params": [nn.Parameter(torch.zeros(1))], "lr": lr or optimizer.param_groups[0]["lr"]}
    )
    optimizer.step()
    return optimizer, scheduler


def test_every_scheduler_is_looked_at() -> None:
    """Every scheduler of torch is asserted to follow, to raise, or to be silently wrong.

    Row 33: https://github.com/pytorch/pytorch/issues/20997
    """
    assert {*FOLLOWS, *RAISES, "LinearLR"} == {*lr_scheduler.__all__} - {"LRScheduler"}


@pytest.mark.parametrize("name", FOLLOWS)
@BRIEF
@given(before=st.integers(0, 4), after=st.integers(1, 4), lr=st.sampled_from((0.0, 0.02)))
def test_some_schedulers_take_an_added_group_along(
    name: str, before: int, after: int, lr: float
) -> None:
    """These schedulers change the rate of an added group by the factor of the first group.

    Row 33: https://github.com/pytorch/pytorch/issues/62475
    """
    optimizer, scheduler = _started(FOLLOWS[name], before, lr)
    first, second = optimizer.param_groups
    ratio = second["lr"] / first["lr"]
    for _ in range(after):
        _step(scheduler)
        assert second["lr"] / first["lr"] == pytest.approx(ratio)


@pytest.mark.parametrize("name", RAISES)
@BRIEF
@given(before=st.integers(2, 4))
def test_some_schedulers_raise_after_a_group_is_added(name: str, before: int) -> None:
    """These schedulers raise at their first step after a group was added.

    Before torch 2.10, all of them but OneCycleLR leave the added group at its rate in silence.

    Row 33: https://github.com/pytorch/pytorch/issues/104361
    """
    make, error, says = RAISES[name]
    optimizer, scheduler = _started(make, before, 0.0)
    first, second = optimizer.param_groups
    if torch_is("<2.10") and name != "OneCycleLR":
        rate = second["lr"]
        _step(scheduler)
        assert second["lr"] == rate != first["lr"]
    else:
        with pytest.raises(error, match=says):
            _step(scheduler)


@FACT
@given(before=st.integers(1, 4))
def test_linear_lr_gives_an_added_group_another_schedule(before: int) -> None:
    """With LinearLR, an added group ends at another rate than the first, with which it began.

    Nothing is raised.

    Row 33: https://github.com/pytorch/pytorch/issues/20997
    """
    optimizer, scheduler = _started(
        lambda each: lr_scheduler.LinearLR(each, 0.5, total_iters=8), before, 0.1
    )
    for _ in range(8):
        _step(scheduler)
    first, second = optimizer.param_groups
    assert first["lr"] == pytest.approx(0.1)
    assert second["lr"] > 0.1 * 1.05
