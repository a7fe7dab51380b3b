"""Discovery: the subjects of a class or function, as its signature tells them. What it can do is for the probe to find."""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import required

from frostproof.errors import UsageError
from frostproof.generation.hyperparameters import space_of
from frostproof.optimizers.known_failures import KNOWN_FAILURES
from frostproof.spec.subject import Closure, Subject

IMPLEMENTATIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    "foreach": (("forloop", False), ("foreach", True)),
    "fused": (("fused", True),),
    "capturable": (("capturable", True),),
    "differentiable": (("differentiable", True),),
    "line_search_fn": (("default", None), ("strong_wolfe", "strong_wolfe")),
}
"""Constructor argument that chooses an implementation -> variants, each with its value."""

PLAIN = ("forloop", "default")
"""Variants that are what an optimizer does where nobody chooses. They exist on every device."""

SANE: dict[str, Any] = {
    "lr": 0.1,
    **dict.fromkeys(
        (
            "num_iterations",
            "total_iterations",
            "max_iterations",
            "num_steps",
            "total_steps",
            "max_steps",
        ),
        100,
    ),
    **dict.fromkeys(
        ("train_steps", "training_steps", "num_training_steps", "total_training_steps", "t_total"),
        100,
    ),
    **dict.fromkeys(("epochs", "num_epochs", "total_epochs", "max_epochs"), 10),
    **dict.fromkeys(
        ("steps_per_epoch", "batches_per_epoch", "num_batches_per_epoch", "iterations_per_epoch"),
        10,
    ),
    **dict.fromkeys(("num_data", "dataset_size", "num_samples"), 8),
    "batch_size": 2,
    "base_optimizer": torch.optim.SGD,
}
"""What to give for an argument that has no default, or has None for one and does not work with it."""

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
    target = (
        target
        or f"{getattr(optimizer, '__module__', '?')}:{getattr(optimizer, '__qualname__', repr(optimizer))}"
    )
    if not callable(optimizer) or (
        isinstance(optimizer, type) and not issubclass(optimizer, Optimizer)
    ):
        kind = "a class" if isinstance(optimizer, type) else f"of type {type(optimizer).__name__}"
        raise UsageError(
            f"{target!r} is {kind}, and no optimizer: "
            f"name a subclass of torch.optim.Optimizer, a Subject, or a function that returns an optimizer"
        )
    if optimizer is Optimizer:
        raise UsageError(f"{target!r} is the abstract base class: name a subclass of it")
    first, names = _arguments(optimizer)
    without = [
        name for name, default in names.items() if any(default is each for each in _REQUIRED)
    ]
    second = next(iter(names), "")
    takes = fields.get("takes") or (
        "two-lists" if _are_two_lists(first, second, without) else TAKES.get(first, "parameters")
    )
    if takes == "two-lists":
        without = [name for name in without if name != second]
    arguments = {
        **{name: SANE[name] for name in without if name in SANE},
        **fields.get("arguments", {}),
    }
    found: dict[str, Any] = {
        "factory": optimizer,
        "takes": takes,
        "base": base_optimizer if takes == "optimizer" else None,
        "per_parameter": takes in ("parameters", "named-parameters"),
        "groups": takes not in ("model", "two-lists"),
        "backward": "fused" if hasattr(optimizer, "fused_backward") else "plain",
        "closure": closure_of(optimizer),
        "modes": isinstance(optimizer, type) and has_modes(optimizer),
        "arguments": arguments,
        "space": space_of(names),
        "needs": tuple(name for name in without if name not in arguments),
        "version": _version(optimizer),
        "discovered": True,
    }
    variants = [(fields["variant"], {})] if "variant" in fields else _variants(names)
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


def _variants(names: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    """The implementations that can be chosen by arguments with these names, each with its argument; a plain one comes first."""
    found = [
        (variant, {argument: value})
        for argument in IMPLEMENTATIONS
        if argument in names
        for variant, value in IMPLEMENTATIONS[argument]
    ]
    return found if any(variant in PLAIN for variant, _ in found) else [("default", {}), *found]


def _are_two_lists(first: str, second: str, required: Collection[str]) -> bool:
    """Whether the first two arguments are lists of parameters, the matrices first.

    Where the name of the second speaks of matrices, they are the other way round, and nothing here can build it.
    """
    lists = all(name == "params" or name.endswith("_params") for name in (first, second))
    return (
        lists and second in required and not any(word in second for word in ("muon", "matri", "2d"))
    )


def sane_in_place_of_none(factory: Any) -> dict[str, Any]:
    """Values for those arguments whose default is None, where any are known by name."""
    return {
        name: SANE[name]
        for name, default in _arguments(factory)[1].items()
        if default is None and name in SANE
    }


def _known(found: Any, variant: str | None) -> dict[str, Any]:
    """What is on record of this optimizer, as fields of its Subject."""
    name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    return KNOWN_FAILURES.get((name, variant), {})


def _arguments(factory: Any) -> tuple[str, dict[str, Any]]:
    """Name of the first argument, and the names of the keyword arguments after it, each with its default."""
    try:
        first, *others = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return "", {}
    return first.name, {
        p.name: p.default for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }


def has_modes(found: Any) -> bool:
    """Whether a class, or an optimizer that is built, has train() and eval()."""
    return all(callable(getattr(found, mode, None)) for mode in ("train", "eval"))


def closure_of(found: Any) -> Closure:
    """Whether step() of a class, or of an optimizer that is built, has room for a closure; whether it insists on one is for the
    probe to find."""
    step = getattr(found, "step", None)
    if step is None:
        return "optional"
    if hasattr(found, "first_step") and hasattr(
        found, "second_step"
    ):  # as in every implementation of SAM
        return "after-backward"
    try:
        parameters = [
            p
            for p in inspect.signature(step).parameters.values()
            if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return "optional"
    if isinstance(found, type):
        parameters = parameters[1:]  # without self
    if not parameters:
        return "never"
    return (
        "required"
        if parameters[0].default is inspect.Parameter.empty and parameters[0].name == "closure"
        else "optional"
    )


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
