"""Optimizers with two bugs each: one shows in nearly any case, the other takes a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tests.helpers.broken import Sound
from tests.helpers.broken_programs import (
    ForgetsWhenAdding,
    InitialGroupsOnly,
    LoadsInOrder,
    NeverForgivesNone,
    SavesWhatTrains,
    ScalesAddedGroup,
    StateInConstructorOnly,
    TrainsWhatRequiredGradAtFirst,
)


class _Decays(Sound):
    """Decays whatever has no gradient."""

    def visit(self, index: int, group: dict[str, Any], position: int, parameter: Tensor) -> None:
        if parameter.grad is None:
            parameter.mul_(0.97)
        super().visit(index, group, position, parameter)


class _ReturnsNothing(Sound):
    """Keeps the closure's loss to itself."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        super().step(closure)


class DecaysAndForgetsWhenAdding(_Decays, ForgetsWhenAdding):
    pass


class DecaysAndTrainsInitialGroupsOnly(_Decays, InitialGroupsOnly):
    pass


class DecaysAndHasStateInConstructorOnly(_Decays, StateInConstructorOnly):
    pass


class DecaysAndLoadsInOrder(_Decays, LoadsInOrder):
    pass


class DecaysAndScalesAddedGroup(_Decays, ScalesAddedGroup):
    pass


class ReturnsNothingAndSavesWhatTrains(_ReturnsNothing, SavesWhatTrains):
    pass


class ReturnsNothingAndNeverForgivesNone(_ReturnsNothing, NeverForgivesNone):
    pass


class ReturnsNothingAndTrainsWhatRequiredGradAtFirst(
    _ReturnsNothing, TrainsWhatRequiredGradAtFirst
):
    pass
