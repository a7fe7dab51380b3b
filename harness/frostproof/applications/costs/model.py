"""A user's model: loading it, its inputs, and the parameters that the patterns freeze."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from frostproof.errors import UsageError, one_line
from frostproof.optimizers.targets import import_for_target, unknown_name
from frostproof.spec.patterns import matching

EXAMPLE = "--input 8,3,32,32"


def load_model(target: str) -> tuple[nn.Module, tuple[Any, ...] | None]:
    """The model that `module:factory` returns, and its positional arguments if it returns them.

    Raises UsageError.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(
            f"malformed model {target!r}: write module:factory, a function that returns an "
            "nn.Module"
        )
    module = import_for_target(module_name, target)
    if not hasattr(module, name):
        raise unknown_name("model", target, module)
    factory = getattr(module, name)
    if isinstance(factory, nn.Module):
        return factory, None
    if not callable(factory):
        raise UsageError(
            f"{target!r} is {type(factory).__name__}, which cannot be called: name a function that "
            "returns an nn.Module"
        )
    try:
        found = factory()
    except Exception as error:  # the user's function may raise anything
        text = f"{type(error).__name__}: {one_line(str(error), 200)}"
        raise UsageError(
            f"{target!r} raised {text}; it must return an nn.Module when called without arguments"
        ) from None
    model, inputs = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{target!r} returned {type(model).__name__}: return an nn.Module, or a pair of it and "
            "its inputs"
        )
    if inputs is None or isinstance(inputs, tuple):
        return model, inputs
    return model, tuple(inputs) if isinstance(inputs, list) else (inputs,)


def random_batch(model: nn.Module, shape: str) -> tuple[Tensor]:
    """Random numbers of a shape such as "8,3,32,32", with the device and dtype of the parameters.

    Raises UsageError if the shape is malformed.
    """
    try:
        sizes = [int(each) for each in shape.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"--input is {shape!r}: give the sizes of a batch with commas between, as {EXAMPLE}"
        )
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    samples = torch.randn(sizes, generator=torch.Generator().manual_seed(0))
    return (samples.to(like.device, like.dtype),)


def frozen_names(model: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Names of the parameters that match a pattern or already have requires_grad=False.

    A pattern is a glob on names, in which `*` matches dots too. The name of a module stands for all
    parameters below it. A parameter that several modules share is frozen if one of its names
    matches, and is listed by its first name. Raises UsageError if a pattern matches nothing, or if
    none or all of the parameters are frozen.
    """
    every = dict(model.named_parameters(remove_duplicate=False))
    if not every:
        raise UsageError("the model has no parameters: there is nothing to freeze")
    if any(map(is_lazy, every.values())):
        raise UsageError(
            "the model has lazy modules, which have no shapes yet: run a forward pass in the "
            "factory"
        )
    ids = {id(parameter) for parameter in every.values() if not parameter.requires_grad}
    for pattern in patterns:
        ids |= {id(every[name]) for name in matching(pattern, [*every], "--freeze")}
    frozen = frozenset(name for name, parameter in model.named_parameters() if id(parameter) in ids)
    if not frozen:
        raise UsageError(
            "nothing is frozen: give --freeze PATTERN, a glob on names such as "
            f"{next(iter(every))!r}"
        )
    if len(frozen) == len(dict(model.named_parameters())):
        raise UsageError(
            f"all {len(frozen)} parameters are frozen, so that nothing trains: freeze fewer"
        )
    return frozen
