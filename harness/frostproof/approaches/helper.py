"""A user's own way to freeze: a helper function, a class with both directions, or an Approach."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from torch import nn

from frostproof.approaches.approach import Approach, Follows, Parameters
from frostproof.errors import FROM_USERS, UsageError, one_line
from frostproof.spec.case import Case
from frostproof.spec.ids import name_of_way
from frostproof.spec.imports import import_named
from frostproof.spec.program import mask_changes
from frostproof.spec.subject import Subject

EXPECTED = "freeze(model, names), or freeze(model, names, optimizer)"
THAWING = ("thaw", "unfreeze")


@dataclass(frozen=True)
class Helper(Approach):
    """A helper of the user, whose functions the statements call by name."""

    name: str = "way"
    follows: Follows = "nothing"
    sees_to_gradients: bool = True
    target: str = ""
    """`module:name`."""
    thing: Any = None
    """The function that freezes, or the class."""
    thawing: Callable[..., Any] | None = None
    """The function that thaws, beside the one that freezes."""
    owned: Literal["all", "trainable"] = "all"
    """The parameters that the optimizer is built with."""
    whole_modules: bool = False
    """Whether it freezes nothing but whole modules."""

    @cached_property
    def is_class(self) -> bool:
        return inspect.isclass(self.thing)

    @property
    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """The functions for each direction; None where there is none."""
        if not self.is_class:
            return {"freeze": self.thing, "thaw": self.thawing}
        return {"freeze": self.thing.freeze, "thaw": getattr(self.thing, "thaw", None)}

    def takes_optimizer(self, direction: str) -> bool:
        """Whether this direction also receives the optimizer."""
        return len(_parameters(self.functions[direction])) - self.is_class > 2

    def owns(self, frozen: bool) -> bool:
        return self.owned == "all" or not frozen

    def unfit(self, case: Case, subject: Subject) -> str:
        if self.owned == "trainable" and len({group.options for group in case.groups}) > 1:
            return "it cannot know the options of each group"
        owned = {name for group in case.groups for name in group.parameters}
        if self.follows == "itself" and owned.issubset(case.mask):
            return "it adds to an optimizer, and there is none until something trains"
        if not self.whole_modules:
            return ""
        changes = [each.names for event in case.program for each in mask_changes(event)]
        for names in (case.mask, *changes):
            chosen = {case.positions[name] for name in names}
            for place in case.architecture.places:
                if not chosen.isdisjoint(place.uses) and not chosen.issuperset(place.uses):
                    return "it freezes nothing but whole modules"
        return ""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        raise NotImplementedError  # the statements call the user's function

    def thaw(self, thawed: Parameters) -> None:
        raise NotImplementedError


def load_way(target: str) -> Approach:
    """The way at `module:name`. Raises UsageError."""
    module, thing = import_named(target, "way", f"a function {EXPECTED}")
    name = target.partition(":")[2]
    if isinstance(thing, Approach):
        return thing
    if inspect.isclass(thing) and issubclass(thing, Approach):
        found: Approach = _instance(target, thing)
        return found
    if not callable(thing) or (inspect.isclass(thing) and not hasattr(thing, "freeze")):
        raise UsageError(
            f"{target!r} is not a way to freeze: give a function {EXPECTED}, a class with freeze "
            "and thaw, or an Approach"
        )
    others = [each for each in (name.replace("freeze", part) for part in THAWING) if each != name]
    thawing = next((getattr(module, each) for each in others if hasattr(module, each)), None)
    owned: Any = getattr(thing, "owned", "all")
    if owned not in ("all", "trainable"):
        raise UsageError(f"{target!r} has owned={owned!r}: give 'all' or 'trainable'")
    helper = Helper(
        name=name_of_way(target),
        target=target,
        thing=thing,
        thawing=None if inspect.isclass(thing) else thawing,
        owned=owned,
        whole_modules=bool(getattr(thing, "whole_modules", False)),
        own_settings=bool(getattr(thing, "own_settings", False)),
    )
    if helper.is_class:
        _instance(target, thing)
    return _checked(helper)


def _instance(target: str, kind: Callable[[], Any]) -> Any:
    try:
        return kind()
    except FROM_USERS as error:
        text = one_line(f"{type(error).__name__}: {error}", 200)
        raise UsageError(f"{target!r} raised {text}; it must be built without arguments") from None


def _checked(helper: Helper) -> Helper:
    """The helper, if its functions take what they are called with."""
    for direction, function in helper.functions.items():
        if function is None:
            continue
        given = len(_parameters(function)) - helper.is_class
        if not 2 <= given <= 3:
            expected = EXPECTED.replace("freeze", direction)
            raise UsageError(
                f"{direction} of {helper.target!r} takes {given} argument{'s' * (given != 1)}: "
                f"it must be {expected}"
            )
    if helper.owned == "trainable":
        thaw = helper.functions["thaw"]
        manages = thaw is not None and helper.takes_optimizer("thaw")
        return replace(helper, follows="itself" if manages else "edit")
    return helper


def _parameters(function: Callable[..., Any] | None) -> Sequence[str]:
    """The arguments that a function must, or may, be given by place."""
    if function is None:
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        found = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise UsageError(f"{one_line(str(error))}: the way must be a Python function") from None
    return [
        each.name
        for each in found
        if each.kind in kinds
        and (each.default is inspect.Parameter.empty or each.name in ("names", "optimizer"))
    ]
