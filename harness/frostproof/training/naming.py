"""How an optimizer is named and called in a script."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

from frostproof.spec.subject import Subject


class Naming:
    """Names for the classes and functions that a training uses.

    A thing that no script can name is bound too, so that a trial can run; a script is then refused.
    """

    def __init__(self) -> None:
        self.imports: set[str] = set()
        """Import statements that bind the names in a script."""
        self.bound: dict[str, Any] = {}
        """What each name is bound to in a trial."""
        self.unprintable = ""
        """The reason for which a script cannot name everything; empty where it can."""

    def of(self, thing: Any, target: str = "") -> str:
        """An expression for a class or a function, or a `functools.partial` of one."""
        if isinstance(thing, functools.partial):
            self.imports.add("import functools")
            self.bound["functools"] = functools
            given = [*map(self.value, thing.args), *self.keywords(thing.keywords)]
            return f"functools.partial({', '.join([self.of(thing.func), *given])})"
        for module, path in _places(thing, target):
            if _found(module, path) is not thing:
                continue
            first = path.partition(".")[0]
            if (module == "torch" or module.startswith("torch.")) and _is_attribute(module):
                self.imports.add("import torch")
                return f"{module}.{path}"
            owner = getattr(sys.modules[module], first)
            if first in TAKEN or self.bound.get(first, owner) is not owner:
                root = module.partition(".")[0]
                self.imports.add(f"import {module}")
                self.bound[root] = sys.modules[root]
                return f"{module}.{path}"
            self.imports.add(f"from {module} import {first}")
            self.bound[first] = owner
            return path
        name = getattr(thing, "__qualname__", None) or repr(thing)
        remedy = "define it at the top level of a module that can be imported"
        return self._unnamed(thing, f"{name} cannot be imported by name: {remedy}")

    def call(self, function: Any, argument: str) -> str:
        """A call of a class or a function, or of a `functools.partial` of one with keywords."""
        if isinstance(function, functools.partial) and not function.args:
            keywords = self.keywords(function.keywords)
            return f"{self.of(function.func)}({', '.join([argument, *keywords])})"
        return f"{self.of(function)}({argument})"

    def value(self, value: Any) -> str:
        """An expression for an argument."""
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, str):
            return (
                repr(value)
                if "'" in repr(value)[1:-1] or '"' in value
                else f'"{repr(value)[1:-1]}"'
            )
        if isinstance(value, float):
            return float.__repr__(value)  # a subclass, such as numpy's, has a repr of its own
        if value is None or isinstance(value, bool | int | torch.dtype):
            return repr(value)
        if isinstance(value, tuple):
            return f"({', '.join(map(self.value, value))}{',' if len(value) == 1 else ''})"
        if isinstance(value, list):
            return f"[{', '.join(map(self.value, value))}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{self.value(k)}: {self.value(v)}' for k, v in value.items())}}}"
        if callable(value) and not isinstance(value, torch.nn.Module):
            return self.of(value)
        remedy = "use numbers, strings, tuples or importable functions"
        reason = f"the argument {value!r:.60} cannot be written down: {remedy}"
        return self._unnamed(value, reason)

    def keywords(self, arguments: Mapping[str, Any]) -> list[str]:
        return [f"{name}={self.value(value)}" for name, value in arguments.items()]

    def _unnamed(self, thing: Any, reason: str) -> str:
        name = f"unnamed_{len(self.bound)}"
        self.bound[name] = thing
        self.unprintable = self.unprintable or reason
        return name


TAKEN = frozenset(
    {
        *(
            "model",
            "optimizer",
            "companion",
            "EachAlone",
            "scaler",
            "scheduler",
            "batch",
            "batches",
            "draw",
            "loss",
            "total",
            "returned",
            "x",
            "y",
            "p",
        ),
        *(
            "nn",
            "sys",
            "io",
            "contextlib",
            "torch",
            "train",
            "network",
            "closure",
            "old",
            "saved",
            "file",
            "at",
            "only",
            "spread",
        ),
        *(
            "before",
            "after",
            "name",
            "state",
            "group",
            "error",
            "aside",
            "given",
            "named",
            "outputs",
            "checkpoint",
            "seed_all",
            "step",
            "wrapped",
            "work",
            "rank",
            "path",
            "folder",
            "ended",
            "mine",
            "gathered",
            "os",
            "tempfile",
            "datetime",
        ),
    }
)
"""Names that a script itself uses."""


def _is_attribute(module: str) -> bool:
    """Whether `import torch` is enough to reach a module of torch.

    torch.optim.sgd, for example, is deleted from its package.
    """
    found: Any = torch
    for part in module.split(".")[1:]:
        found = getattr(found, part, None)
    return found is sys.modules.get(module)


def _places(thing: Any, target: str) -> Iterable[tuple[str, str]]:
    """Modules and names under which it may be found, the best first."""
    module, _, name = target.partition(":")
    if module.startswith("torch.optim."):
        yield "torch.optim", name
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
    """Statements that seed the other generators that the optimizer's modules import."""
    modules = [sys.modules[name] for name in _modules(subject) if name in sys.modules]
    known = {
        value.__name__
        for module in modules
        for value in vars(module).values()
        if isinstance(value, ModuleType)
    }
    return (["random.seed(seed)"] if "random" in known else []) + (
        ["numpy.random.seed(seed)"] if "numpy" in known else []
    )


def speaks_of(subject: Subject, text: str) -> bool:
    """Whether any part of the optimizer's library that is loaded has this text in its source."""
    libraries = {name.partition(".")[0] for name in _modules(subject)}
    if not libraries:
        return False
    return any(
        name.partition(".")[0] in libraries and text in _source(module)
        for name, module in list(sys.modules.items())
    )


def _modules(subject: Subject) -> set[str]:
    """The names of the modules in which the optimizer is defined, less torch's."""
    names = {
        getattr(each, "__module__", None) or ""
        for each in getattr(subject.factory, "__mro__", (subject.factory,))
    }
    return {name for name in names if name.partition(".")[0] not in ("torch", "builtins", "")}


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""
