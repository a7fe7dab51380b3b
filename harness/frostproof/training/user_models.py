"""A user's model: loaded, tried once, and described as data; and what the patterns freeze."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from frostproof.errors import FROM_USERS, CaseError, UsageError, did_you_mean, one_line
from frostproof.spec.imports import import_named
from frostproof.spec.patterns import matching
from frostproof.spec.user_model import Form, UserModel, sizes_of

NO_INPUT = (
    "no input is known: give its shape, as --input 8,3,32,32, or --input module:name of a function "
    "that returns a batch, or let {} return a pair (model, inputs)"
)

TORCH = f"{Path(torch.__file__).parent}{os.sep}"
"""The folder with torch's own source files."""


class LoadedModel(NamedTuple):
    """What `module:factory` names."""

    model: nn.Module
    inputs: Any
    """The inputs that the factory returns beside the model; None if it returns none."""
    optimizer: torch.optim.Optimizer | None
    """The optimizer that it returns beside the model."""
    form: Form

    def batch(self, target: str, inputs: str | None) -> Any:
        """The batch that `inputs` gives, by its sizes or by `module:name`, or the factory's own.

        Raises UsageError.
        """
        if inputs and ":" in inputs:
            function = load_function(inputs, "input", "a function that returns a batch")
            return called(inputs, function, "return a batch")
        if inputs:
            return random_batch(self.model, inputs)
        if self.inputs is None:
            raise UsageError(NO_INPUT.format(target))
        return self.inputs


def load_model(target: str) -> LoadedModel:
    """The model at `module:factory`. Raises UsageError."""
    factory = load_function(target, "model", "a function that returns an nn.Module")
    if isinstance(factory, nn.Module):
        return LoadedModel(factory, None, None, "module")
    found = called(target, factory, "return an nn.Module")
    pair = isinstance(found, tuple) and len(found) == 2
    model, beside = found if pair else (found, None)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{target!r} returned {type(model).__name__}: return an nn.Module, or a pair of it and "
            "its inputs"
        )
    form: Form = "pair" if pair else "function"
    if isinstance(beside, torch.optim.Optimizer):
        return LoadedModel(model, None, beside, form)
    return LoadedModel(model, beside, None, form)


def load_function(target: str, kind: str, what: str) -> Any:
    """What `module:name` names. `what`: what it should be. Raises UsageError."""
    _, found = import_named(target, kind, what, "factory" if kind == "model" else "name")
    if not (callable(found) or isinstance(found, nn.Module)):
        raise UsageError(
            f"{target!r} is {type(found).__name__}, which cannot be called: name {what}"
        )
    return found


def load_step(step: str | None) -> Any:
    """The training step at `module:name`; None if none is named. Raises UsageError."""
    what = "a function of the model and a batch that returns the loss"
    return load_function(step, "training step", what) if step else None


def load_optimizer(name: str, what: str) -> Any:
    """A class of torch.optim, or what `module:name` names, which should be `what`.

    Raises UsageError.
    """
    if ":" in name:
        return load_function(name, "optimizer", what)
    found = getattr(torch.optim, name, None)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        near = did_you_mean(name, [*vars(torch.optim)])
        raise UsageError(
            f"torch.optim has no optimizer {name!r}: give module:name for others.{near}"
        )
    return found


def called(target: str, function: Any, must: str) -> Any:
    """What a function of the user returns without arguments. Raises UsageError."""
    try:
        return function()
    except FROM_USERS as error:
        text = f"{type(error).__name__}: {one_line(str(error), 200)}"
        _, *frames = traceback.extract_tb(error.__traceback__)
        own = [each for each in frames if not each.filename.startswith(TORCH)]
        where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        raise UsageError(
            f"{target!r} raised {text}{where}; it must {must} when called without arguments"
        ) from None


def random_batch(model: nn.Module, shape: str) -> Tensor:
    """Random numbers of a shape such as "8,3,32,32", with the device and dtype of the parameters.

    Raises UsageError if the shape is malformed.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    samples = torch.randn(sizes_of(shape), generator=torch.Generator().manual_seed(0))
    return samples.to(like.device, like.dtype)


def frozen_names(model: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Names of the parameters that match a pattern or already have requires_grad=False.

    A pattern is a glob on names, in which `*` matches dots too. The name of a module stands for all
    parameters below it, and `!pattern` leaves out what it matches. A parameter that several modules
    share is frozen if one of its names matches, and is listed by its first name. Raises UsageError
    if a pattern matches nothing, or if none or all of the parameters are frozen.
    """
    every = _every_parameter(model)
    ids = {id(parameter) for parameter in every.values() if not parameter.requires_grad}
    ids |= {id(every[name]) for name in matching(patterns, [*every], "--freeze")}
    frozen = frozenset(name for name, parameter in model.named_parameters() if id(parameter) in ids)
    if not frozen:
        raise UsageError(
            "nothing is frozen: give --freeze PATTERN, a glob on names such as "
            f"{next(iter(every))!r}"
        )
    if len(frozen) == len(dict(model.named_parameters())):
        tied = [name for name in every if name not in dict(model.named_parameters())]
        why = f" ({', '.join(tied[:4])} and others are one tensor)" if tied else ""
        raise UsageError(
            f"all {len(frozen)} parameters are frozen, so that nothing trains{why}: freeze fewer"
        )
    return frozen


def frozen_as_built(model: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Names of the parameters that already have requires_grad=False.

    Raises UsageError if a pattern matches nothing, or if all parameters are frozen.
    """
    every = _every_parameter(model)
    matching(patterns, [*every], "--freeze")
    frozen = frozenset(name for name, p in model.named_parameters() if not p.requires_grad)
    if len(frozen) == len(dict(model.named_parameters())):
        raise UsageError(f"the model has all {len(frozen)} parameters frozen: nothing trains")
    return frozen


def _every_parameter(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by all their names. Raises UsageError if there are none, or if one is lazy."""
    every = dict(model.named_parameters(remove_duplicate=False))
    if not every:
        raise UsageError("the model has no parameters: there is nothing to freeze")
    if any(map(is_lazy, every.values())):
        raise UsageError(
            "the model has lazy modules, which have no shapes yet: run a forward pass in the "
            "factory"
        )
    return every


def check_unchanged(network: UserModel) -> None:
    """Raise CaseError if the user's factory returns another model than the case was found for.

    Raises UsageError if it returns none.
    """
    model = load_model(network.factory).model
    found = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    if found != [(each.name, each.shape) for each in network.weights]:
        raise CaseError(
            f"{network.factory!r} returns a model with other parameters than the case has: search "
            "again with `frostproof check`"
        )
