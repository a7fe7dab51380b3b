"""An optimizer of its own for each parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class EachAlone(torch.optim.Optimizer):
    """Optimizers that hold one parameter each, and step together.

    A script prints this class.
    """

    def __init__(
        self, build: Callable[..., torch.optim.Optimizer], params: Iterable[Any], **options: Any
    ):
        owned: list[Any] = []
        for each in params:
            if isinstance(each, dict):
                owned += [[{**each, "params": [p]}] for p in each["params"]]
            else:
                owned.append([each])
        self.each = [build(each, **options) for each in owned]
        super().__init__([group for each in self.each for group in each.param_groups], {})

    def zero_grad(self, *options: bool, **named: bool) -> None:
        for each in self.each:
            each.zero_grad(*options, **named)

    def step(self) -> None:  # type: ignore[override]
        for each in self.each:
            each.step()
