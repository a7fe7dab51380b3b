"""The hooks that an approach overrides as functions, and the functions that they call."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from frostproof.counterexamples.network import untyped, without_underscore
from frostproof.training.hooks import HOOKS


@cache
def functions(kind: Any, hooks: frozenset[str]) -> tuple[str, ...]:
    """The source of these hooks of a class of approaches, as functions without `self`.

    The source of the functions that they call comes before them.
    """
    found: dict[str, str] = {}
    for name in sorted(hooks):
        _method(kind, name, HOOKS[name], found)
    return tuple(found.values())


def _method(kind: type, name: str, title: str, found: dict[str, str]) -> None:
    owner = next(each for each in kind.__mro__ if name in vars(each))
    tree = ast.parse(textwrap.dedent(inspect.getsource(vars(owner)[name])))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.name = title
    definition.args.args = definition.args.args[1:]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called, on = node.func.attr, ast.unparse(node.func.value)
            if on == "super()":
                usual = f"{called}_as_usual"
                if usual not in found:
                    _method(_after(kind, owner), called, usual, found)
                node.func = ast.Name(usual)
            elif on == "self" and called in HOOKS:
                if HOOKS[called] not in found:
                    _method(kind, called, HOOKS[called], found)
                node.func = ast.Name(HOOKS[called])
    for each in _names(tree):
        _helper(owner.__module__, each, found)
    found[title] = untyped(tree)


def _after(kind: type, owner: type) -> type:
    """The class in which `super()` of `owner` begins to look."""
    return kind.__mro__[kind.__mro__.index(owner) + 1]


def _helper(module: str, name: str, found: dict[str, str]) -> None:
    """The source of a function or class of the approach's own module."""
    thing = vars(sys.modules[module]).get(name)
    title = without_underscore(name)
    if (
        getattr(thing, "__module__", None) != module
        or title in found
        or not (inspect.isfunction(thing) or inspect.isclass(thing))
    ):
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    text = untyped(tree)
    for each in _names(tree):
        if each != name:
            _helper(module, each, found)
    found[title] = text


def _names(tree: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
