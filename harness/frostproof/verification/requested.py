"""What optimizers are to be verified with: settings, a model of the user, a way of the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from frostproof.approaches.approach import Approaches
from frostproof.approaches.helper import load_way
from frostproof.errors import UsageError
from frostproof.optimizers.targets import resolve_settings
from frostproof.spec.setting import Setting
from frostproof.spec.user_model import ModelUnderTest
from frostproof.training.trying import model_under_test


class Requested(NamedTuple):
    """What the user named, loaded and tried once."""

    settings: tuple[Setting, ...]
    approaches: Approaches
    """With the user's own way, if there is one."""

    model: ModelUnderTest | None
    """The user's model; None if networks are drawn."""

    way: str | None
    """`module:name` of the user's way."""


def requested(
    settings: Sequence[str],
    model: str | None,
    freeze: Sequence[str],
    inputs: str | None,
    training_step: str | None,
    way: str | None,
) -> Requested:
    """Load what these names name. Raises UsageError, one line.

    The arguments are those of the options of the same names, as `frostproof check` takes them.
    """
    about = {"freeze": freeze, "input": inputs, "training-step": training_step}
    for name, given in about.items():
        if given and model is None:
            raise UsageError(f"{name} is about a model: give model, as module:factory, too")
    return Requested(
        resolve_settings(settings),
        Approaches(way=load_way(way) if way else None),
        None if model is None else model_under_test(model, freeze, inputs, training_step),
        way,
    )
