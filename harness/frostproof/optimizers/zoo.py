"""The zoo: libraries of optimizers that are verified every night, and subjects for those of theirs that need something special."""

from __future__ import annotations

from collections.abc import Callable
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
    return [
        f"{module}:*" for package, module in LIBRARIES.items() if find_spec(package) is not None
    ]


def missing_libraries() -> list[str]:
    """The libraries of the zoo that are not installed."""
    return [package for package in LIBRARIES if find_spec(package) is None]


def subjects_of(target: str) -> list[Subject]:
    """The subjects that stand for a target of the zoo; none where discovery finds out by itself how to use it."""
    if target.startswith("heavyball:"):
        _run_heavyball_eagerly()
    return _RECORDS[target](target) if target in _RECORDS else []


def _run_heavyball_eagerly() -> None:
    """Its own switch: dozens of small functions in each step are otherwise handed to torch.compile, if only to be refused."""
    import heavyball.utils

    heavyball.utils.compile_mode = heavyball.utils.compile_mode_recommended_to_none = None


def _split(target: str) -> list[Subject]:
    """SplitOpt takes groups that name their optimizer."""
    import heavyball

    return subjects(
        heavyball.SplitOpt,
        target,
        keys=lambda name, shape: {"optimizer": heavyball.AdamW, "lr": 0.1},
        per_parameter=False,
    )


def wsam(model: Any, **arguments: Any) -> Any:
    """WSAM takes a model, and its parameters too."""
    import pytorch_optimizer

    return pytorch_optimizer.WSAM(
        model, list(model.parameters()), torch.optim.SGD, **{"lr": 0.1, **arguments}
    )


def _wsam(target: str) -> list[Subject]:
    space = st.fixed_dictionaries({"rho": st.sampled_from((0.05, 0.5))})
    return subjects(
        wsam,
        target,
        takes="model",
        closure="after-backward",
        per_parameter=False,
        groups=False,
        space=space,
        positional=_WSAM,
    )


_WSAM = "it keeps the statistics of batch norms still in its second pass, and finds those only in a whole model, which B does not hand it"


def _needs(what: str) -> Callable[[str], list[Subject]]:
    """A subject that nothing here can run, with what it needs."""
    return lambda target: [Subject(target, factory=_never, needs=(what,))]


def _never(parameters: Any) -> Any:
    """Stands for an optimizer that is not even tried, as its subject says what it needs."""
    raise NotImplementedError


_RECORDS: dict[str, Callable[[str], list[Subject]]] = {
    "heavyball:SplitOpt": _split,
    "pytorch_optimizer:WSAM": _wsam,
    "pytorch_optimizer:DistributedMuon": _needs(
        "an initialised process group of torch.distributed"
    ),
    "pytorch_optimizer:DeMo": _needs("an initialised process group of torch.distributed"),
}
