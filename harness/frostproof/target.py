"""Targets: what a user names, `module:Name`, resolved to subjects that have yet to be probed."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from torch.optim import Optimizer

from frostproof.errors import UsageError
from frostproof.findings import FINDINGS
from frostproof.hyperparameters import SINGLE, space_of
from frostproof.subject import Subject

IMPLEMENTATIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    "foreach": (("forloop", False), ("foreach", True)),
    "fused": (("fused", True),),
    "capturable": (("capturable", True),),
    "differentiable": (("differentiable", True),),
    "line_search_fn": (("default", None), ("strong_wolfe", "strong_wolfe")),
}
"""Constructor argument that chooses an implementation -> variants, each with its value."""

ONLY_ON = {"capturable": "accelerators", "differentiable": "cpu"}
"""Implementations that are looked at on some devices alone: captured graphs exist on accelerators, and what a
differentiable optimizer can step does not depend on the device."""


def resolve(targets: Iterable[str]) -> list[Subject]:
    """The subjects that `targets` name, each implementation by itself. Raises UsageError, one line, where one cannot be had."""
    return [subject for target in targets for subject in _subjects(target)]


def torch_optimizers() -> list[Subject]:
    """Every optimizer class of torch.optim, found by looking, in each of its implementations."""
    return resolve(["torch.optim:*"])


def _subjects(target: str) -> list[Subject]:
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"malformed target {target!r}: write module:Name, or 'module:*' for every optimizer class of the module")
    module = _import(module_name, target)
    if name == "*":
        classes = _exported(module)
        if not classes:
            raise UsageError(f"{module_name!r} exports no optimizer class: name one as {module_name}:Name")
        return [subject for each in classes for subject in _variants(f"{module_name}:{each}", getattr(module, each))]
    if not hasattr(module, name):
        candidates = _exported(module) or [each for each in vars(module) if not each.startswith("_")]
        has = f"the module has {', '.join(candidates[:12])}" if candidates else "the module is empty"
        raise UsageError(f"unknown optimizer {target!r}: {has}.{_nearest(name, candidates)}")
    return _variants(target, getattr(module, name))


def _import(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"unknown module {name!r} in target {target!r}: install it, or run where it can be imported.{_nearest_module(name)}"
            ) from None
        text = " ".join(str(error).split())
        raise UsageError(
            f"importing {name!r} for target {target!r} raised {type(error).__name__}: {text:.200}; "
            f"make `python -c 'import {name}'` work first"
        ) from None


def _nearest(name: str, candidates: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, candidates, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _nearest_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    try:
        path = importlib.import_module(parent).__path__ if parent else None
    except Exception:  # the parent may be as absent as the module itself
        return ""
    near = difflib.get_close_matches(last, [module.name for module in pkgutil.iter_modules(path)], n=1)
    return f" Did you mean {parent + '.' if parent else ''}{near[0]}?" if near else ""


def _exported(module: ModuleType) -> list[str]:
    """Names of the optimizer classes that the module offers as its own, sorted."""
    package = module.__name__.partition(".")[0]
    public = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    own: dict[type, str] = {}
    for name in public:
        found = getattr(module, name, None)
        if (
            isinstance(found, type)
            and issubclass(found, Optimizer)
            and found is not Optimizer
            and found.__module__.partition(".")[0] == package
        ):
            own.setdefault(found, name)
    return sorted(own.values())


def subjects_of(found: Any) -> list[Subject]:
    """The subjects of a class, a function or a Subject that is at hand, each implementation by itself. Raises UsageError."""
    if isinstance(found, Subject):
        return [found]
    return _variants(f"{getattr(found, '__module__', '?')}:{getattr(found, '__qualname__', repr(found))}", found)


def _variants(target: str, found: Any) -> list[Subject]:
    if isinstance(found, Subject):
        return [replace(found, target=target)]  # reports name it as the user did
    if not callable(found) or (isinstance(found, type) and not issubclass(found, Optimizer)):
        kind = "a class" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise UsageError(
            f"{target!r} is {kind}, and no optimizer: "
            f"name a subclass of torch.optim.Optimizer, a Subject, or a function that returns an optimizer"
        )
    if found is Optimizer:
        raise UsageError(f"{target!r} is the abstract base class: name a subclass of it")
    names = _arguments(found)
    base = Subject(
        target=target,
        factory=found,
        space=space_of(names),
        closure=_closure(found),
        needs=tuple(name for name, required in names.items() if required and name not in SINGLE),
        version=_version(found),
        **_known(found, None),
    )
    variants = [
        (variant, argument, value) for argument in IMPLEMENTATIONS if argument in names for variant, value in IMPLEMENTATIONS[argument]
    ]
    if not variants:
        return [base]
    return [replace(base, variant=variant, arguments={argument: value}, **_known(found, variant)) for variant, argument, value in variants]


def _known(found: Any, variant: str | None) -> dict[str, Any]:
    """What is on record of this optimizer, as fields of its Subject."""
    name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    return FINDINGS.get((name, variant), {})


def _arguments(factory: Any) -> dict[str, bool]:
    """Names of the keyword arguments after the first, which takes the parameters -> whether each is required."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1:]
    except (TypeError, ValueError):
        return {}
    return {p.name: p.default is p.empty for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _closure(found: Any) -> Any:
    """Whether step() has room for a closure; whether it insists on one is for the probe to find."""
    step = getattr(found, "step", None)
    if step is None:
        return "optional"
    try:
        parameters = list(inspect.signature(step).parameters.values())[1:]
    except (TypeError, ValueError):
        return "optional"
    if not parameters:
        return "never"
    return "required" if parameters[0].default is inspect.Parameter.empty and parameters[0].name == "closure" else "optional"


def _version(found: Any) -> str:
    package = getattr(found, "__module__", "").partition(".")[0]
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return str(getattr(sys.modules.get(package), "__version__", ""))
