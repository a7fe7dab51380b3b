"""Small optimizers that need only torch, and whose bugs few programs show.

`tests.helpers.planted_rare` says which invariant must report each of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.helpers.broken_programs import Heavy

# At every n-th step


class PullsEveryFifth(Heavy):
    """Goes half the way back to the slow copy at every fifth step, frozen parameters included."""

    period = 5

    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        self.state[parameter].setdefault("slow", parameter.clone())
        super().update(group, parameter, gradient, scale)

    def after(self) -> None:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps % self.period == 0:
            for parameter, state in self.state.items():
                if "slow" in state:
                    parameter.lerp_(state["slow"], 0.5)


class PullsEverySixth(PullsEveryFifth):
    period = 6


class PullsEveryTenth(PullsEveryFifth):
    period = 10


# A group that is added while it is frozen


class LooksAtWhatIsAdded(Heavy):
    """Keeps the parameters that a later group brings while they are frozen."""

    def __init__(
        self, params: Any, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        self.built = False
        self.added_frozen: list[Tensor] = []
        super().__init__(params, lr, momentum, weight_decay)
        self.built = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        if self.built:
            added = self.param_groups[-1]["params"]
            self.added_frozen += [p for p in added if not p.requires_grad]


class ScalesWhatIsAddedFrozen(LooksAtWhatIsAdded):
    @torch.no_grad()
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        known = len(self.added_frozen)
        super().add_param_group(param_group)
        for parameter in self.added_frozen[known:]:
            parameter.mul_(0.9)


class NeverTrainsWhatWasAddedFrozen(LooksAtWhatIsAdded):
    def update(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, scale: float = 1.0
    ) -> None:
        if all(each is not parameter for each in self.added_frozen):
            super().update(group, parameter, gradient, scale)


class ThawsWhatWasAddedFrozen(LooksAtWhatIsAdded):
    def after(self) -> None:
        for parameter in self.added_frozen:
            parameter.requires_grad_(True)


class DecaysWhatWasAddedFrozen(LooksAtWhatIsAdded):
    def after(self) -> None:
        for parameter in self.added_frozen:
            if parameter.grad is None:
                parameter.mul_(0.9)
