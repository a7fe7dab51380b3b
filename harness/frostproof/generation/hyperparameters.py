"""Hyperparameters that the field knows by name, with sound values to draw from.

Each choice is a tuple of alternatives, the simplest first; options that only make sense together form one choice, so
that an invalid combination cannot be drawn. Learning rates are large enough for an update to show in float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from frostproof.spec.case import Value
from frostproof.spec.subject import Choice


def _one(name: str, *values: Value) -> Choice:
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
"""Choices over several names, tried in this order where a signature has all of them."""

SINGLE: dict[str, Choice] = {
    "lr": _one("lr", 0.1, 0.01, 0.5),
    "weight_decay": _one("weight_decay", 0.0, 0.1, 0.01),
    "momentum": _one("momentum", 0.0, 0.9),
    "betas": _one("betas", (0.9, 0.999), (0.5, 0.9), (0.0, 0.99)),
    "rho": _one("rho", 0.9, 0.5),
    "alpha": _one("alpha", 0.99, 0.5),
    "amsgrad": _one("amsgrad", False, True),
    "maximize": _one("maximize", False, True),
    "centered": _one("centered", False, True),
    "decoupled_weight_decay": _one("decoupled_weight_decay", False, True),
    "lr_decay": _one("lr_decay", 0.0, 0.1),
    "initial_accumulator_value": _one("initial_accumulator_value", 0.0, 0.1),
    "lambd": _one("lambd", 1e-4, 0.1),
    "t0": _one("t0", 1e6, 1.0),
    "momentum_decay": _one("momentum_decay", 4e-3, 0.1),
    "etas": _one("etas", (0.5, 1.2), (0.3, 1.5)),
    "beta2_decay": _one("beta2_decay", -0.8, -0.5),
    "ns_steps": _one("ns_steps", 2, 5),
    "adjust_lr_fn": _one("adjust_lr_fn", "original", "match_rms_adamw"),
    "max_iter": _one("max_iter", 1, 2, 4),
    "history_size": _one("history_size", 2, 1, 10),
}


def space_of(defaults: Mapping[str, Any]) -> tuple[Choice, ...]:
    """The choices for a constructor with these arguments, each with its default; one that is not known keeps it."""
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
            found.append(choice)
    return tuple(found)


def _same_kind(value: Value, default: Any) -> bool:
    """Whether a value is of the kind of an argument's default: what is a switch here may be a number there."""
    return default in (None, inspect.Parameter.empty) or isinstance(value, bool) == isinstance(
        default, bool
    )


def _as_long_as(default: Any, value: Value) -> Value:
    """A tuple made as long as the default is, with what the default has behind it."""
    if isinstance(value, tuple) and isinstance(default, tuple | list) and len(default) > len(value):
        return (*value, *default[len(value) :])
    return value
