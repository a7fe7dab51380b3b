"""How an optimizer is named and called in a script."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

from frostproof.subject import Subject


class Unprintable(Exception):
    """What cannot be written as a script of its own; the message is the reason, one line."""


class Naming:
    """Collects the imports that the names in a script need."""

    def __init__(self) -> None:
        self.imports: set[str] = set()

    def of(self, thing: Any, target: str = "") -> str:
        """An expression for a class or function that can be imported. Raises Unprintable."""
        for module, path in _places(thing, target):
            if _found(module, path) is not thing:
                continue
            if module == "torch" or module.startswith("torch."):
                self.imports.add("import torch")
                return f"{module}.{path}"
            first = path.partition(".")[0]
            if first in TAKEN:
                self.imports.add(f"import {module}")
                return f"{module}.{path}"
            self.imports.add(f"from {module} import {first}")
            return path
        name = getattr(thing, "__qualname__", None) or repr(thing)
        raise Unprintable(f"{name} cannot be imported by name: define it at the top level of a module, not in __main__")

    def value(self, value: Any) -> str:
        """An expression for an argument. Raises Unprintable."""
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, str):
            return repr(value) if "'" in repr(value)[1:-1] or '"' in value else f'"{repr(value)[1:-1]}"'
        if value is None or isinstance(value, bool | int | float | torch.dtype):
            return repr(value)
        if isinstance(value, tuple):
            return f"({', '.join(map(self.value, value))}{',' if len(value) == 1 else ''})"
        if isinstance(value, list):
            return f"[{', '.join(map(self.value, value))}]"
        if isinstance(value, Mapping):
            return f"{{{', '.join(f'{self.value(k)}: {self.value(v)}' for k, v in value.items())}}}"
        if callable(value):
            return self.of(value)
        raise Unprintable(f"the argument {value!r:.60} cannot be written down: use numbers, strings, tuples or importable functions")

    def keywords(self, arguments: Mapping[str, Any]) -> list[str]:
        return [f"{name}={self.value(value)}" for name, value in arguments.items()]


TAKEN = frozenset(
    {"model", "optimizer", "batch", "batches", "loss", "x", "y", "p", "nn", "sys", "io", "train", "network", "before", "after"}
)
"""Names that a script itself uses."""


def _places(thing: Any, target: str) -> Iterable[tuple[str, str]]:
    """Modules and names under which it may be found, the best first."""
    module, _, name = target.partition(":")
    if module and name:
        yield module, name
    own, path = getattr(thing, "__module__", None) or "", getattr(thing, "__qualname__", None) or ""
    if own in ("", "__main__") or not path or "<" in path:
        return
    if own.startswith("torch.optim."):
        yield "torch.optim", path
    yield own, path


def _found(module: str, path: str) -> Any:
    if module == "__main__":
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception:  # a module that cannot be imported again is one that a script cannot import
        return None
    return found


def draws(subject: Subject) -> list[str]:
    """Statements that seed, with `seed`, the generators beside torch's that the optimizer's modules know of."""
    modules = [sys.modules[name] for name in _modules(subject) if name in sys.modules]
    known = {value.__name__ for module in modules for value in vars(module).values() if isinstance(value, ModuleType)}
    return (["random.seed(seed)"] if "random" in known else []) + (["numpy.random.seed(seed)"] if "numpy" in known else [])


def compiles(subject: Subject) -> bool:
    """Whether any part of the optimizer's library that is loaded speaks of torch.compile."""
    libraries = {name.partition(".")[0] for name in _modules(subject)}
    if not libraries:
        return False
    return any(name.partition(".")[0] in libraries and "torch.compile" in _source(module) for name, module in list(sys.modules.items()))


def _modules(subject: Subject) -> set[str]:
    """The names of the modules in which the optimizer is defined, less torch's."""
    names = {getattr(each, "__module__", None) or "" for each in getattr(subject.factory, "__mro__", (subject.factory,))}
    return {name for name in names if name.partition(".")[0] not in ("torch", "builtins", "")}


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""
