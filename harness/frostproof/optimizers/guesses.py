"""Values to try for constructor arguments that have none: by name, by annotation, or guessed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, product
from typing import Any

import torch

from frostproof.generation.hyperparameters import SINGLE
from frostproof.spec.subject import Subject

OPTIMIZERS = ("optimizer", "base_optimizer", "optim")
"""Names of arguments that are an optimizer, or its class."""

_SANE: dict[str, Any] = {
    "lr": 0.1,
    "t_total": 100,
    "eps": 1e-8,
    **dict.fromkeys(("num_data", "dataset_size", "num_samples"), 8),
    "batch_size": 2,
    **dict.fromkeys(OPTIMIZERS, torch.optim.SGD),
}

_ENDINGS = {"per_epoch": 10, "epochs": 10, "iterations": 100, "iters": 100, "steps": 100}
"""Last words of names that count something."""

_GUESSES = (0.1, 10, True, (0.9, 0.999))
"""What any argument may be."""

_WARM_UP = (4, *_GUESSES)
"""What a warm-up may be: at first a few steps, so that a case is in it, and behind it."""

_MOST = 64
"""Combinations of guesses that are tried."""


def sane_value(name: str) -> Any:
    """A sound value for an argument of this name; None if the name tells nothing."""
    if name in _SANE:
        return _SANE[name]
    if name in SINGLE:
        return dict(SINGLE[name][0])[name]
    return next((value for end, value in _ENDINGS.items() if name.endswith(end)), None)


def in_place_of_none(factory: Any, spared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Values for the arguments whose default is None, in the ways to try.

    First there are those that a name or an annotation tells, then also any number for the rest.
    Those in `spared` are no numbers.
    """
    none = {
        name: annotation
        for name, (default, annotation) in _signature(factory).items()
        if default is None and name not in spared and not name.endswith("params")
    }
    told = {name: _told(name, annotation) for name, annotation in none.items()}
    known = {name: value for name, value in told.items() if value is not None}
    rest = {name: 10 for name, annotation in none.items() if annotation is inspect.Parameter.empty}
    return [each for each in (known, {**rest, **known}) if each]


def with_guesses(subject: Subject, spared: Mapping[str, Any]) -> Iterator[Subject]:
    """The subject with values for the arguments that it needs, in each way to try.

    `spared`: see `in_place_of_none`.
    """
    signature = _signature(subject.factory)
    choices = []
    for name in subject.needs:
        told = _told(name, signature[name][1]) if name in signature else None
        guesses = _WARM_UP if "warm" in name else _GUESSES
        choices.append(guesses if told is None else (told,))
    for beside in ({}, *in_place_of_none(subject.factory, {**spared, **subject.arguments})):
        for values in islice(product(*choices), _MOST):
            given = dict(zip(subject.needs, values, strict=True))
            yield replace(subject, arguments={**subject.arguments, **given, **beside}, needs=())


def _told(name: str, annotation: Any) -> Any:
    """A value of the kind that the annotation, or else the name, tells."""
    sane = sane_value(name)
    words = re.findall(r"\w+", annotation if isinstance(annotation, str) else repr(annotation))
    if sane is not None or "bool" in words:
        return False if sane is None else sane
    return 0.1 if "float" in words else 10 if "int" in words else None


def _signature(factory: Any) -> dict[str, tuple[Any, Any]]:
    """The arguments after the first -> their defaults and their annotations."""
    try:
        _, *others = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {parameter.name: (parameter.default, parameter.annotation) for parameter in others}
