"""Correct optimizers of more kinds: other arguments, and other uses of a closure."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from tests.helpers.protocols import PROTOCOLS, Plain, TwoLists


class ByKeyword(TwoLists):
    """The list of matrices comes second, and by name only."""

    def __init__(self, params: Any, *, muon_params: Any = None, lr: float = 0.1) -> None:
        super().__init__(muon_params, params, lr)


class Swapped(TwoLists):
    """The list of matrices comes second."""

    def __init__(self, adamw_params: Any, muon_params: Any, lr: float = 0.1) -> None:
        super().__init__(muon_params, adamw_params, lr)


class Between(TwoLists):
    """Settings come before the two lists, and between them."""

    def __init__(
        self, lr: float = 0.1, muon_params: Any = None, eps: float = 1e-8, adamw_params: Any = None
    ) -> None:
        super().__init__(muon_params, adamw_params, lr)


class OfModel(Plain):
    """Takes a model."""

    def __init__(self, network: nn.Module, lr: float = 0.1) -> None:
        super().__init__(list(network.parameters()), lr)


USES: dict[type[Optimizer], dict[str, Any]] = {
    **PROTOCOLS,
    ByKeyword: {"takes": "two-lists", "lists": ("muon_params", "params")},
    Swapped: {"takes": "two-lists", "lists": ("muon_params", "adamw_params")},
    Between: {"takes": "two-lists", "lists": ("muon_params", "adamw_params")},
    OfModel: {"takes": "model"},
}
"""Optimizer -> fields of its Subject that discovery must find."""
