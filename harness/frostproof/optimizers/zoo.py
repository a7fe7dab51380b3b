"""The zoo: libraries of optimizers that are verified every night, and what a few of them need."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from hypothesis import strategies as st

from frostproof.optimizers.discovery import subjects
from frostproof.spec.subject import Subject

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


def installed_targets() -> list[str]:
    """A target for each library of the zoo that is installed."""
    return [f"{module}:*" for package, module in LIBRARIES.items() if find_spec(package)]


def missing_libraries() -> list[str]:
    """The libraries of the zoo that are not installed."""
    return [package for package in LIBRARIES if find_spec(package) is None]


def subjects_of(target: str) -> list[Subject]:
    """The subjects of a target in the table below; none if discovery alone knows how to use it."""
    module, _, name = target.partition(":")
    for path, value in SWITCHES.get(module, {}).items():
        owner, _, attribute = path.rpartition(".")
        setattr(import_module(owner), attribute, value)
    if target not in SUBJECTS:
        return []
    fields = dict(SUBJECTS[target])
    return subjects(
        fields.pop("factory", None) or getattr(import_module(module), name), target, **fields
    )


def wsam(model: Any, **arguments: Any) -> Any:
    """WSAM takes a model and its parameters."""
    return import_module("pytorch_optimizer").WSAM(
        model, list(model.parameters()), torch.optim.SGD, **{"lr": 0.1, **arguments}
    )


def _adamw_keys(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """SplitOpt takes groups that name their optimizer."""
    return {"optimizer": import_module("heavyball").AdamW, "lr": 0.1}


SUBJECTS: dict[str, dict[str, Any]] = {
    "heavyball:SplitOpt": {"keys": _adamw_keys, "per_parameter": False},
    "pytorch_optimizer:WSAM": {
        "factory": wsam,
        "takes": "model",
        "closure": "after-backward",
        "per_parameter": False,
        "groups": False,
        "space": st.fixed_dictionaries({"rho": st.sampled_from((0.05, 0.5))}),
        "positional": "it disables the running statistics of batch norms in its second pass, and "
        "finds batch norms only in a whole model, which B does not give it",
    },
}
"""Target -> the fields of its Subject that discovery cannot find."""

SWITCHES: dict[str, dict[str, Any]] = {
    # Dozens of small functions in each step are otherwise handed to torch.compile.
    "heavyball": {
        "heavyball.utils.compile_mode": None,
        "heavyball.utils.compile_mode_recommended_to_none": None,
    },
}
"""Module of a target -> settings of its library that are changed first."""
