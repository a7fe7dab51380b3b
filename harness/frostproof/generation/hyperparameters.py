"""Hyperparameters with common names, and sound values to draw for them.

Each choice is a tuple of alternatives, the simplest first. Options that belong together form one
choice, so that no invalid combination can be drawn. Learning rates are large enough for an update
to show in float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from frostproof.spec.case import Value
from frostproof.spec.subject import Choice


def _values(name: str, *values: Value) -> Choice:
    return tuple(((name, value),) for value in values)


JOINT: tuple[tuple[frozenset[str], Choice], ...] = (
    (
        frozenset({"momentum", "dampening", "nesterov"}),
        (
            (),
            (("momentum", 0.9),),
            (("momentum", 0.9), ("nesterov", True)),
            (("momentum", 0.9), ("dampening", 0.1)),
        ),
    ),
    (
        frozenset({"momentum", "nesterov"}),
        (
            (),
            (("momentum", 0.9),),
            (("momentum", 0.9), ("nesterov", True)),
            (("momentum", 0.5), ("nesterov", False)),
        ),
    ),
)
"""Choices over several names. The first whose names are all in a signature is taken."""

SINGLE: dict[str, Choice] = {
    "lr": _values("lr", 0.1, 0.01, 0.5),
    "weight_decay": _values("weight_decay", 0.0, 0.1, 0.01),
    "momentum": _values("momentum", 0.0, 0.9),
    "betas": _values("betas", (0.9, 0.999), (0.5, 0.9), (0.0, 0.99)),
    "rho": _values("rho", 0.9, 0.5),
    "alpha": _values("alpha", 0.99, 0.5),
    "amsgrad": _values("amsgrad", False, True),
    "maximize": _values("maximize", False, True),
    "centered": _values("centered", False, True),
    "decoupled_weight_decay": _values("decoupled_weight_decay", False, True),
    "lr_decay": _values("lr_decay", 0.0, 0.1),
    "initial_accumulator_value": _values("initial_accumulator_value", 0.0, 0.1),
    "lambd": _values("lambd", 1e-4, 0.1),
    "t0": _values("t0", 1e6, 1.0),
    "momentum_decay": _values("momentum_decay", 4e-3, 0.1),
    "etas": _values("etas", (0.5, 1.2), (0.3, 1.5)),
    "beta2_decay": _values("beta2_decay", -0.8, -0.5),
    "ns_steps": _values("ns_steps", 2, 5),
    "adjust_lr_fn": _values("adjust_lr_fn", "original", "match_rms_adamw"),
    "max_iter": _values("max_iter", 1, 2, 4),
    "history_size": _values("history_size", 2, 1, 10),
}


OTHER_LOOPS = ("gradient_release",)
"""Switches that ask for another training loop, and are not drawn."""


def space_of(defaults: Mapping[str, Any]) -> tuple[Choice, ...]:
    """The choices for a constructor with these defaults; other arguments keep their default.

    An unknown switch is drawn as well: each of its two values is sound, if it works at all.
    """
    left = dict(defaults)
    found: list[Choice] = []
    for joint, choice in JOINT:
        if joint <= left.keys() and all(
            _same_kind(default, left[name]) for options in choice for name, default in options
        ):
            found.append(choice)
            left = {name: default for name, default in left.items() if name not in joint}
    for name, default in left.items():
        choice = tuple(
            ((name, _as_long_as(default, value)),) for ((_, value),) in SINGLE.get(name, ())
        )
        if choice and all(_same_kind(value, default) for ((_, value),) in choice):
            found.append(_with_default(name, default, choice))
        elif isinstance(default, bool) and name not in OTHER_LOOPS:
            found.append(_values(name, default, not default))
    return tuple(found)


def _with_default(name: str, default: Any, choice: Choice) -> Choice:
    """The choice, and the default as well, as it is what most people train with.

    Whole numbers, as of iterations, would be slow, and learning rates are too small to show.
    """
    if isinstance(default, list):
        default = tuple(default)
    parts = default if isinstance(default, tuple) else (default,)
    counts = not parts or not all(isinstance(part, float) for part in parts)
    if name == "lr" or counts or ((name, default),) in choice:
        return choice
    return (*choice, ((name, default),))


def _same_kind(value: Value, default: Any) -> bool:
    """Whether both are switches or both are not: a name may be a switch in one optimizer only."""
    return default in (None, inspect.Parameter.empty) or isinstance(value, bool) == isinstance(
        default, bool
    )


def _as_long_as(default: Any, value: Value) -> Value:
    """A tuple extended by the last elements of the default, if the default is longer."""
    if isinstance(value, tuple) and isinstance(default, tuple | list) and len(default) > len(value):
        return (*value, *default[len(value) :])
    return value
