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
"""Package -> the module that exports its optimizers; these are verified every night."""

OTHERS = (
    "torch_optimizer",
    "dadaptation",
    "adabelief_pytorch",
    "came_pytorch",
    "galore_torch",
    "apollo_torch",
    "muon",
    "madgrad",
    "adan_pytorch",
    "adam_atan2_pytorch",
    "adamp",
    "kron_torch",
    "torchastic",
    "nadir",
    "parameterfree",
    "SM3",
    "dowg",
    "ranger21",
    "pytorch_ranger",
    "rad.optim",
    "grokadamw",
    "sgd_sai",
    "core_optimizer",
    "torchium.optimizers",
    "transformers.optimization",
    "prodigyplus",
)
"""Modules that export optimizers of other released libraries; benchmarks/zoo.txt installs them."""


def installed_targets() -> list[str]:
    """A target for each library of the zoo, and each other one, that is installed."""
    modules = (*LIBRARIES.values(), *OTHERS)
    return [f"{module}:*" for module in modules if find_spec(module.partition(".")[0])]


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


_SWITCHES_IN_GROUP = "its switch from Adam to SGD, and the rate after it, belong to a whole group"

SUBJECTS: dict[str, dict[str, Any]] = {
    "heavyball:Scion": {
        "positional": "it first replaces each weight by a random one, with its place as the seed"
    },
    "heavyball:SplitOpt": {"keys": _adamw_keys, "per_parameter": False},
    "torch_optimizer:SWATS": {"coupled": _SWITCHES_IN_GROUP},
    "pytorch_optimizer:SWATS": {"coupled": _SWITCHES_IN_GROUP},
    "pytorch_optimizer:DAdaptAdaGrad": {
        "coupled": "one distance, in which the gradients of all parameters are, scales each step"
    },
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
