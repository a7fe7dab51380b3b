"""The zoo: libraries of optimizers that are verified every night, and subjects for those of theirs that need something special."""

from __future__ import annotations

from importlib.util import find_spec

LIBRARIES = {
    "pytorch_optimizer": "pytorch_optimizer",
    "timm": "timm.optim",
    "schedulefree": "schedulefree",
    "heavyball": "heavyball",
    "optimi": "optimi",
    "torchao": "torchao.optim",
    "lion_pytorch": "lion_pytorch",
    "prodigyopt": "prodigyopt",
    "bitsandbytes": "bitsandbytes.optim",
}
"""Package -> the module that exports its optimizers."""


def targets() -> list[str]:
    """A target for each library of the zoo that is installed."""
    return [f"{module}:*" for package, module in LIBRARIES.items() if find_spec(package) is not None]


def missing() -> list[str]:
    """The libraries of the zoo that are not installed."""
    return [package for package in LIBRARIES if find_spec(package) is None]
