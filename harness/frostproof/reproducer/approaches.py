"""Ways to freeze that somebody has subclassed, as functions: what they override, and what that calls."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache

from frostproof.approach import Approach
from frostproof.reproducer.naming import Unprintable
from frostproof.reproducer.network import untyped, without_underscore

METHODS = {
    "freeze": "freeze",
    "thaw": "thaw",
    "clear": "clear",
    "between_passes": "between_passes",
    "companion": "second",
    "forward": "forward",
    "backward": "backward",
    "begin": "begin",
    "after_backward": "after_backward",
    "end": "end",
}
"""What an approach may override -> the function that a script calls in its place."""

PACKAGE = Approach.__module__


def overridden(approach: Approach) -> set[str]:
    """Names of the methods that are not ours. Raises Unprintable where a script could not call them."""
    own = {name for name in METHODS if getattr(type(approach), name).__module__ != PACKAGE}
    if any(getattr(type(approach), name).__module__ != PACKAGE for name in ("owns", "arranged")):
        raise Unprintable(f"{type(approach).__name__} decides by itself what the optimizer owns, which cannot be written down")
    return own


@cache
def functions(approach: Approach) -> tuple[str, ...]:
    """The source of what is overridden, as functions without `self`, after the source of what they call."""
    found: dict[str, str] = {}
    for name in sorted(overridden(approach)):
        _method(type(approach), name, METHODS[name], found)
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
            elif on == "self" and called in METHODS:
                if METHODS[called] not in found:
                    _method(kind, called, METHODS[called], found)
                node.func = ast.Name(METHODS[called])
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
    if getattr(thing, "__module__", None) != module or title in found or not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    text = untyped(tree)
    for each in _names(tree):
        if each != name:
            _helper(module, each, found)
    found[title] = text


def _names(tree: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
