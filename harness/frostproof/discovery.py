"""Discovery: the subjects of a class or function, as its signature tells them. What it can do is for the probe to find."""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import required

from frostproof.errors import UsageError
from frostproof.findings import FINDINGS
from frostproof.hyperparameters import space_of
from frostproof.subject import Closure, Subject

IMPLEMENTATIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    "foreach": (("forloop", False), ("foreach", True)),
    "fused": (("fused", True),),
    "capturable": (("capturable", True),),
    "differentiable": (("differentiable", True),),
    "line_search_fn": (("default", None), ("strong_wolfe", "strong_wolfe")),
}
"""Constructor argument that chooses an implementation -> variants, each with its value."""

SANE: dict[str, Any] = {
    "lr": 0.1,
    "num_iterations": 100,
    "total_steps": 100,
    "num_data": 8,
    "base_optimizer": torch.optim.SGD,
}
"""What to give for an argument that has no default."""

TAKES = {
    "model": "model",
    "module": "model",
    "named_parameters": "named-parameters",
    "optimizer": "optimizer",
    "base_optimizer": "optimizer",
}
"""Name of the first argument -> what it takes, where that is no list of parameters."""


_REQUIRED = (inspect.Parameter.empty, required)
"""Defaults that say that there is none; torch's own is found in older libraries."""


def base_optimizer(groups: Any) -> Optimizer:
    """What an optimizer that wraps another is given to wrap."""
    return torch.optim.SGD(groups, lr=0.1)


def subjects(optimizer: Any, /, target: str = "", **fields: Any) -> list[Subject]:
    """The subjects of an optimizer class, or of a function that returns an optimizer, each implementation by itself.

    `fields` are those of a Subject, and stand for what its signature does not tell. A Subject is returned as it is. Raises
    UsageError, one line, for anything else.
    """
    if "expected_failures" in fields:  # in the place of those on record, whose cases go with them
        fields = {"known_cases": {}, **fields}
    if isinstance(optimizer, Subject):
        return [replace(optimizer, target=target or optimizer.target, **fields)]
    target = target or f"{getattr(optimizer, '__module__', '?')}:{getattr(optimizer, '__qualname__', repr(optimizer))}"
    if not callable(optimizer) or (isinstance(optimizer, type) and not issubclass(optimizer, Optimizer)):
        kind = "a class" if isinstance(optimizer, type) else f"of type {type(optimizer).__name__}"
        raise UsageError(
            f"{target!r} is {kind}, and no optimizer: "
            f"name a subclass of torch.optim.Optimizer, a Subject, or a function that returns an optimizer"
        )
    if optimizer is Optimizer:
        raise UsageError(f"{target!r} is the abstract base class: name a subclass of it")
    first, names = _arguments(optimizer)
    without = [name for name, default in names.items() if any(default is each for each in _REQUIRED)]
    arguments = {**{name: SANE[name] for name in without if name in SANE}, **fields.get("arguments", {})}
    takes = TAKES.get(first, "parameters")
    found: dict[str, Any] = {
        "factory": optimizer,
        "takes": takes,
        "base": base_optimizer if takes == "optimizer" else None,
        "per_parameter": takes in ("parameters", "named-parameters"),
        "groups": takes != "model",
        "backward": "fused" if hasattr(optimizer, "fused_backward") else "plain",
        "closure": _closure(optimizer),
        "arguments": arguments,
        "space": space_of(names),
        "needs": tuple(name for name in without if name not in arguments),
        "version": _version(optimizer),
        "discovered": True,
    }
    variants = [
        (variant, {argument: value}) for argument in IMPLEMENTATIONS if argument in names for variant, value in IMPLEMENTATIONS[argument]
    ]
    if not variants or "variant" in fields:
        variants = [(fields.get("variant", "default"), {})]
    return [
        Subject(
            **{
                **found,
                "target": target,
                "variant": variant,
                **_known(optimizer, None),
                **_known(optimizer, variant),
                **fields,
                "arguments": {**arguments, **given},
            }
        )
        for variant, given in variants
    ]


def _known(found: Any, variant: str | None) -> dict[str, Any]:
    """What is on record of this optimizer, as fields of its Subject."""
    name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    return FINDINGS.get((name, variant), {})


def _arguments(factory: Any) -> tuple[str, dict[str, Any]]:
    """Name of the first argument, and the names of the keyword arguments after it, each with its default."""
    try:
        first, *others = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return "", {}
    return first.name, {p.name: p.default for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _closure(found: Any) -> Closure:
    """Whether step() has room for a closure; whether it insists on one is for the probe to find."""
    step = getattr(found, "step", None)
    if step is None:
        return "optional"
    if hasattr(found, "first_step") and hasattr(found, "second_step"):  # as in every implementation of SAM
        return "after-backward"
    try:
        parameters = list(inspect.signature(step).parameters.values())[1:]
    except (TypeError, ValueError):
        return "optional"
    if not parameters:
        return "never"
    return "required" if parameters[0].default is inspect.Parameter.empty and parameters[0].name == "closure" else "optional"


def _version(found: Any) -> str:
    """Version of the distribution that has it; empty where there is none."""
    package = getattr(found, "__module__", "").partition(".")[0]
    try:
        return importlib.metadata.version(_distribution(package))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return str(getattr(sys.modules.get(package), "__version__", ""))


def _distribution(package: str) -> str:
    return _distributions().get(package, [package])[0]


_distributions = cache(importlib.metadata.packages_distributions)
