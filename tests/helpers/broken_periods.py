"""Small optimizers that are broken at every n-th step only, as lookahead can be."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.helpers.broken_programs import Heavy


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
