"""The parts of a model that are frozen as a whole, with modules in them that have no weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def frozen_parts(
    model: nn.Module, is_frozen: Callable[[str, nn.Parameter], bool]
) -> dict[str, str]:
    """The path of each module in a frozen part -> the path of the largest such part around it.

    All parameters of a part are frozen, and it has at least one. A norm without weights, or the
    module that computes a parametrized weight, belongs to the part that it is in.
    """
    found: dict[str, str] = {}
    for path, module in model.named_modules():  # a module comes before those inside it
        around = path.rpartition(".")[0]
        if path and around in found:
            found[path] = found[around]
            continue
        own = [is_frozen(name, p) for name, p in module.named_parameters(prefix=path)]
        if own and all(own):
            found[path] = path
    return found
