"""Statements about several parameters, and an approach's hooks as statements."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from frostproof.approaches.approach import Approach
from frostproof.approaches.helper import Helper
from frostproof.spec.architecture import expression
from frostproof.spec.case import Case, parameters_expression
from frostproof.spec.subject import Subject
from frostproof.training.naming import Naming
from frostproof.training.ownership import Groups
from frostproof.training.source import At, Statement, block

_SAME_NAME = [
    "freeze",
    "thaw",
    "clear",
    "between_passes",
    "forward",
    "backward",
    "begin",
    "after_backward",
    "end",
]
HOOKS = {**{name: name for name in _SAME_NAME}, "companion": "second"}
"""Hook of an approach -> the function that the statements call where it is overridden."""


@cache
def templates(hook: Callable[..., Any]) -> tuple[str, ...] | None:
    """The body of a hook that only loops over parameters, with `{p}` for the parameter.

    None for any other hook.

    >>> templates(RequiresGrad.freeze)
    ('{p}.requires_grad_(False)',)
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(hook))).body
    assert isinstance(definition, ast.FunctionDef)
    if not (len(definition.body) == 1 and isinstance(loop := definition.body[0], ast.For)):
        return None
    return tuple(ast.unparse(each).replace("p.", "{p}.", 1) for each in loop.body)


class Hooks(Groups):
    """Puts parameters, and what an approach does to them, into words."""

    def __init__(self, case: Case, subject: Subject, approach: Approach, naming: Naming) -> None:
        super().__init__(case, subject, approach)
        self.naming = naming
        self.own: set[str] = set()
        """The hooks that the statements call as functions."""

    def name(self, i: int) -> str:
        """An expression for parameter `i`."""
        return expression(self.case.parameters[i].name)

    def quoted(self, positions: Iterable[int]) -> str:
        """The names of these parameters, as strings between commas."""
        return ", ".join(self.naming.value(self.case.parameters[i].name) for i in positions)

    def all_of(self, positions: Iterable[int]) -> str:
        """An expression that can be iterated once."""
        return parameters_expression(self.case, positions)

    def list_of(self, positions: Iterable[int]) -> str:
        """An expression for a list, for a function that may iterate more than once."""
        listed = self.all_of(positions)
        return listed if listed.startswith("[") else f"list({listed})"

    @property
    def frozen_list(self) -> str:
        return self.list_of(sorted(self.frozen))

    def each(self, positions: Iterable[int], *does: str) -> list[Statement]:
        """Each template, with `{p}` for the parameter, for each of these parameters."""
        positions = list(positions)
        if not positions:
            return []
        listed = self.all_of(positions)
        module = listed.removesuffix(".parameters()")
        if module != listed and all(text.startswith("{p}.requires_grad_(") for text in does):
            return [text.replace("{p}", module) for text in does]
        if len(positions) == 1 and all(text.count("{p}") == 1 for text in does):
            return [text.format(p=self.name(positions[0])) for text in does]
        return [block(f"for p in {listed}:", *(text.format(p="p") for text in does))]

    def overrides(self, *hooks: str) -> bool:
        """Whether the approach has its own version of one of these hooks."""
        return any(getattr(type(self.approach), n) is not getattr(Approach, n) for n in hooks)

    def foreign(self, *hooks: str) -> bool:
        """Whether one of these hooks is not among those whose effect on gradients is known."""
        return any(
            getattr(type(self.approach), name).__module__ != Approach.__module__ for name in hooks
        )

    def calls(self, hook: str) -> bool:
        """Whether the approach overrides this hook, which is then called as a function."""
        if self.overrides(hook):
            self.own.add(hook)
            return True
        return False

    def hook(
        self, name: str, positions: Iterable[int], *before: str, kept: str = ""
    ) -> list[Statement]:
        """What the approach does here to these parameters. `before`: arguments before them."""
        if isinstance(self.approach, Helper) and name in ("freeze", "thaw"):
            return self._helped(self.approach, name, list(positions))
        if not self.overrides(name):
            return []
        does = None if self.foreign(name) else templates(getattr(type(self.approach), name))
        if does is not None:
            return self.each(positions, *does)
        self.own.add(name)
        return [f"{kept}{HOOKS[name]}({', '.join((*before, self.list_of(positions)))})"]

    def _helped(self, helper: Helper, direction: str, positions: list[int]) -> list[Statement]:
        """The call of the user's helper, or what A does where it has no function for that."""
        function = helper.functions[direction]
        if function is None or not positions:
            return self.each(positions, "{p}.requires_grad_(True)")
        called = f"way.{direction}" if helper.is_class else self.naming.of(function)
        given = ["model", f"[{self.quoted(positions)}]"]
        given += ["optimizer" if self.optimizer else "None"] * helper.takes_optimizer(direction)
        return [At("regroup"), f"{called}({', '.join(given)})"]
