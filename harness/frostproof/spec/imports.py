"""What a user names as `module:Name`, imported; and what to say where it is not there."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import PurePath
from types import ModuleType
from typing import Any

from frostproof.errors import FROM_USERS, UsageError, did_you_mean, one_line


def unknown_name(
    kind: str, target: str, module: ModuleType, names: Sequence[str] = ()
) -> UsageError:
    """The error for a target that its module does not have.

    `names`: the names to choose from; by default all public ones of the module.
    """
    candidates = list(names) or [each for each in vars(module) if not each.startswith("_")]
    has = f"the module has {', '.join(candidates[:12])}" if candidates else "the module is empty"
    meant = did_you_mean(target.partition(":")[2], candidates)
    return UsageError(f"unknown {kind} {target!r}: {has}.{meant}")


def import_named(
    target: str, kind: str, what: str, written: str = "name"
) -> tuple[ModuleType, Any]:
    """The module of `module:name`, and what it has there. Raises UsageError.

    `kind` and `what` say to people what it should be; `written`: what the name is of.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"malformed {kind} {target!r}: write module:{written}, {what}")
    module = import_for_target(module_name, target)
    if not hasattr(module, name):
        raise unknown_name(kind, target, module)
    return module, getattr(module, name)


def target_of(thing: Any, kind: str) -> str:
    """`module:name` of what was given by name, or as the function or class itself.

    Raises UsageError if a new process could not import it.
    """
    if isinstance(thing, str):
        return thing
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    there = None if module == "__main__" else getattr(sys.modules.get(str(module)), name, None)
    if thing is None or there is not thing:
        raise UsageError(
            f"{kind} is {one_line(repr(thing), 80)}, which scripts cannot import: give module:name "
            "of a function in a file of its own"
        )
    return f"{module}:{name}"


def import_for_target(name: str, target: str) -> ModuleType:
    """The module of a target. Raises UsageError if it is missing or cannot be imported."""
    path = PurePath(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        stem = path.parent.name if path.stem == "__init__" else path.stem
        raise UsageError(
            f"target {target!r} names a file: name the module that it is, as {stem}"
            f"{target.removeprefix(name)}, and run in the folder where it can be imported"
        )
    try:
        return importlib.import_module(name)
    except FROM_USERS as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and (name == error.name or name.startswith(f"{error.name}."))
        ):
            raise UsageError(
                f"unknown module {name!r} in target {target!r}: install it, "
                f"or run where it can be imported.{_suggest_module(name)}"
            ) from None
        text = " ".join(str(error).split())
        raise UsageError(
            f"importing {name!r} for target {target!r} raised {type(error).__name__}: {text:.200}; "
            f"make `python -c 'import {name}'` work first"
        ) from None


def _suggest_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    try:
        path = importlib.import_module(parent).__path__ if parent else None
    except Exception:  # the parent may be as absent as the module itself
        return ""
    there = {module.name for module in pkgutil.iter_modules(path)}
    names = there if parent else there - sys.stdlib_module_names
    near = difflib.get_close_matches(last, sorted(names), n=1)
    return f" Did you mean {parent + '.' if parent else ''}{near[0]}?" if near else ""
