"""Discovery: the subjects of a class or function by its signature. The probe finds the rest."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import required

from frostproof.errors import UsageError, did_you_mean
from frostproof.generation.hyperparameters import space_of
from frostproof.optimizers.guesses import OPTIMIZERS, sane_value
from frostproof.optimizers.known_failures import KNOWN_FAILURES, stated
from frostproof.spec.subject import Closure, Subject, drawn_names

IMPLEMENTATIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    "foreach": (("forloop", False), ("foreach", True)),
    "fused": (("fused", True),),
    "capturable": (("capturable", True),),
    "differentiable": (("differentiable", True),),
    "line_search_fn": (("strong_wolfe", "strong_wolfe"),),
}
"""Constructor argument that selects an implementation -> variants, each with its value."""

TAKES = {
    "model": "model",
    "module": "model",
    "named_parameters": "named-parameters",
    **dict.fromkeys(OPTIMIZERS, "optimizer"),
}
"""Name of the first argument -> what it takes, if that is not a list of parameters."""


_FIELDS = tuple(each.name for each in dataclasses.fields(Subject))

BASE = partial(torch.optim.SGD, lr=0.1)
"""Builds the optimizer that is wrapped by those that wrap one."""


def subjects(optimizer: Any, /, target: str = "", **fields: Any) -> list[Subject]:
    """The subjects of an optimizer class, or of a function that returns an optimizer.

    There is one for each of its implementations. `fields` are fields of a Subject, and override
    those that its signature tells. A Subject is returned with these fields replaced. Raises
    UsageError, one line, for anything else.
    """
    unknown = next((name for name in fields if name not in _FIELDS), None)
    if unknown is not None:
        raise UsageError(
            f"a Subject has no field {unknown!r}: give some of {', '.join(_FIELDS)}."
            f"{did_you_mean(unknown, _FIELDS)}"
        )
    if "expected_failures" in fields:  # they override the recorded ones, and the cases of those
        fields = {"known_cases": {}, **fields}
    if isinstance(optimizer, Subject):
        return [replace(optimizer, target=target or optimizer.target, **fields)]
    if isinstance(optimizer, str):
        raise UsageError(f"{optimizer!r} is a string: give the optimizer class itself")
    target = target or _public_name(optimizer)
    _check_optimizer(optimizer, target)
    found = _fields_of_signature(optimizer, fields)
    names = _arguments(optimizer)
    variants = [(fields["variant"], {})] if "variant" in fields else _variants(names)
    made = [
        Subject(
            **{
                **found,
                "target": target,
                "variant": variant,
                **_known(optimizer, None),
                **_known(optimizer, variant),
                **fields,
                "arguments": {**found["arguments"], **given},
                "stated": fields,
            }
        )
        for variant, given in variants
    ]
    if "space" in fields or "arguments" in fields:
        replace(made[0], discovered=False)  # which refuses names that are no arguments
    return made


def _public_name(optimizer: Any) -> str:
    """`module:Name` with the outermost package that has the optimizer under its name.

    So it is what its users import, and what `frostproof check 'package:*'` calls it.
    """
    module = getattr(optimizer, "__module__", "?")
    name = getattr(optimizer, "__qualname__", repr(optimizer))
    parts = module.split(".")
    packages = (".".join(parts[:i]) for i in range(1, len(parts)))
    loaded = (each for each in packages if each in sys.modules)
    has = (each for each in loaded if vars(sys.modules[each]).get(name) is optimizer)
    return f"{next(has, module)}:{name}"


def _check_optimizer(optimizer: Any, target: str) -> None:
    """Raise UsageError unless it is an optimizer class or a function."""
    if optimizer is Optimizer:
        raise UsageError(f"{target!r} is the abstract base class: name a subclass of it")
    is_class = isinstance(optimizer, type)
    if not callable(optimizer) or (is_class and not issubclass(optimizer, Optimizer)):
        kind = "a class" if is_class else f"of type {type(optimizer).__name__}"
        raise UsageError(
            f"{target!r} is {kind}, not an optimizer: name a subclass of torch.optim.Optimizer, "
            "a Subject, or a function that returns an optimizer, as one of params that wraps one"
        )


def _fields_of_signature(optimizer: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Subject that a class or function itself tells, beside those given."""
    defaults = _arguments(optimizer)
    lists = () if "takes" in given else _two_lists(defaults)
    first, second = [*defaults, "", ""][:2]
    takes = given.get("takes") or ("two-lists" if lists else TAKES.get(first, "parameters"))
    owns = lists or ((first, second) if takes == "two-lists" else (first,))
    names = {name: default for name, default in defaults.items() if name not in owns}
    required = [name for name, default in names.items() if _is_required(default)]
    values = {name: sane_value(name) for name in required}
    sane = {name: value for name, value in values.items() if value is not None}
    arguments = {**sane, **given.get("arguments", {})}
    return {
        "factory": optimizer,
        "takes": takes,
        "lists": lists,
        "base": BASE if takes == "optimizer" else None,
        "per_parameter": takes in ("parameters", "named-parameters"),
        "groups": takes not in ("model", "two-lists"),
        "backward": "fused" if hasattr(optimizer, "fused_backward") else "plain",
        "closure": closure_of(optimizer),
        "modes": isinstance(optimizer, type) and has_modes(optimizer),
        "arguments": arguments,
        "space": space_of(
            {
                name: default
                for name, default in {**_passed_on(optimizer), **names}.items()
                if name not in IMPLEMENTATIONS
            }
        ),
        "needs": tuple(name for name in required if name not in arguments),
        "version": _version(optimizer),
        "discovered": True,
    }


def _variants(names: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The implementations that these arguments select, with their arguments; a plain one first.

    A `line_search_fn` with a default of its own is not that of torch, and has other values.
    """
    found = [
        (variant, {argument: value})
        for argument in IMPLEMENTATIONS
        if argument in names and (argument != "line_search_fn" or names[argument] is None)
        for variant, value in IMPLEMENTATIONS[argument]
    ]
    return found if "foreach" in names else [("default", {}), *found]


def _two_lists(defaults: Mapping[str, Any]) -> tuple[str, str] | tuple[()]:
    """The names of two lists of parameters, the matrices first; empty if there are not two.

    One of them is named after matrices, or else both are required, and the matrices come first.
    """
    lists = [
        name
        for name, default in defaults.items()
        if (name == "params" or name.endswith("_params"))
        and (default is None or _is_required(default))
    ]
    matrices = [name for name in lists if any(word in name for word in ("muon", "matri", "2d"))]
    if len(lists) != 2 or not (matrices or all(_is_required(defaults[name]) for name in lists)):
        return ()
    first, second = lists
    return (second, first) if matrices == [second] else (first, second)


def _is_required(default: Any) -> bool:
    """Whether this default means that there is none; older libraries use that of torch."""
    return default is inspect.Parameter.empty or default is required


def _known(found: Any, variant: str | None) -> dict[str, Any]:
    """The recorded fields of this optimizer's Subject."""
    name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    return stated(KNOWN_FAILURES.get((name, variant), {}))


def _arguments(factory: Any) -> dict[str, Any]:
    """The arguments that can be named, and the first in any case, with their defaults."""
    try:
        first, *others = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    named = (p for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return {p.name: p.default for p in (first, *named)}


def options_of(factory: Any) -> tuple[str, ...]:
    """The arguments of a class or function that have defaults and select no implementation."""
    found = _arguments(factory).items() if factory is not None else ()
    return tuple(
        name
        for name, default in found
        if not _is_required(default) and name not in (*IMPLEMENTATIONS, *TAKES)
    )


def never_drawn(subject: Subject) -> list[str]:
    """The hyperparameters of a subject that have their default in every case."""
    varied = (*drawn_names(subject), *subject.arguments)
    return [name for name in options_of(subject.factory) if name not in varied]


def _passed_on(optimizer: Any) -> dict[str, Any]:
    """The defaults of the arguments that a class with `**options` may pass on to its base class.

    The probe drops those that it does not, as one that it gives to its base class itself.
    """
    if not isinstance(optimizer, type):
        return {}
    defines, base = [each for each in optimizer.__mro__ if "__init__" in vars(each)][:2]
    parameters = inspect.signature(defines).parameters.values()
    if all(p.kind is not p.VAR_KEYWORD for p in parameters) or base in (Optimizer, object):
        return {}
    optional = {n: d for n, d in _arguments(base).items() if not _is_required(d)}
    return {**_passed_on(base), **optional}


def has_modes(found: Any) -> bool:
    """Whether a class, or an optimizer, has train() and eval()."""
    return all(callable(getattr(found, mode, None)) for mode in ("train", "eval"))


def closure_of(found: Any) -> Closure:
    """Whether step() of a class, or of an optimizer, takes a closure.

    The probe finds whether an optional one is required after all.
    """
    step = getattr(found, "step", None)
    if step is None:
        return "optional"
    if hasattr(found, "first_step") and hasattr(found, "second_step"):
        return "after-backward"  # these are the names in every implementation of SAM
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
    """The version of its distribution; empty if there is none."""
    package = getattr(found, "__module__", "").partition(".")[0]
    try:
        return importlib.metadata.version(_distribution(package))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return str(getattr(sys.modules.get(package), "__version__", ""))


def _distribution(package: str) -> str:
    return _distributions().get(package, [package])[0]


_distributions = cache(importlib.metadata.packages_distributions)
