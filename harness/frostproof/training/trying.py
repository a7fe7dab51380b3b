"""A user's model, tried once: what has to be known of it before cases are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from frostproof.errors import FROM_USERS, UsageError, one_line
from frostproof.spec.architecture import expression
from frostproof.spec.layers.modules import mean_square
from frostproof.spec.user_model import (
    MOST_WEIGHTS,
    Call,
    ModelUnderTest,
    UserModel,
    Weight,
    is_expressible,
)
from frostproof.training.bits import bits_of
from frostproof.training.user_models import (
    frozen_as_built,
    frozen_names,
    load_model,
    load_step,
)


def model_under_test(
    target: str,
    patterns: Sequence[str],
    inputs: str | None = None,
    step: str | None = None,
    *,
    most_weights: int | None = MOST_WEIGHTS,
    as_built: bool = False,
) -> ModelUnderTest:
    """The model at `target`, and the parameters that match `patterns`. Raises UsageError.

    `inputs`: the sizes of a batch, or `module:name` of a function that returns one. `step`:
    `module:name` of a function of the model and a batch that returns the loss. The batch must be
    what the model, or that function, can train on. `as_built`: whether the patterns freeze nothing,
    and only have to match.
    """
    loaded = load_model(target)
    frozen = (frozen_as_built if as_built else frozen_names)(loaded.model, patterns)
    _check_parameters(target, loaded.model, most_weights)
    batch = loaded.batch(target, inputs)
    stepping = load_step(step)
    network = UserModel(
        factory=target,
        form=loaded.form,
        inputs=(inputs or "").replace(" ", ""),
        step=step or "",
        call=_call(batch),
        one_output=False,
        weights=tuple(
            Weight(name, tuple(p.shape), False, False)
            for name, p in loaded.model.named_parameters()
        ),
        modules=_modules(loaded.model),
        autocasts=False,
        recomputes=False,
        thaws=any(not p.requires_grad for p in loaded.model.parameters()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tried = _tried(network, loaded.model, batch, stepping)
    return ModelUnderTest(tried, tuple(each.name for each in tried.weights if each.name in frozen))


def _check_parameters(target: str, model: nn.Module, most_weights: int | None) -> None:
    count = sum(p.numel() for p in model.parameters())
    if most_weights is not None and count > most_weights:
        raise UsageError(
            f"{target!r} has {count:,} weights, and a trial keeps their bits at every event: "
            f"return a smaller configuration, with at most {most_weights:,}"
        )
    for name, p in model.named_parameters():
        if p.dtype != torch.float32 or p.device.type != "cpu":
            kind = str(p.dtype).removeprefix("torch.")
            raise UsageError(
                f"{name} is {kind} on {p.device}: return a model of float32 on the CPU"
            )
        if not is_expressible(name) or eval(expression(name), {"model": model}) is not p:
            raise UsageError(
                f"Python code cannot reach the parameter {name!r}: name modules by identifiers"
            )


def _call(batch: Any) -> Call:
    if isinstance(batch, dict):
        return "model(**x)"
    return "model(*x)" if isinstance(batch, tuple | list) else "model(x)"


def _modules(model: nn.Module) -> tuple[tuple[str, tuple[int, ...]], ...]:
    places = {id(p): i for i, p in enumerate(model.parameters())}
    return tuple(
        (path, tuple(places[id(p)] for p in module.parameters()))
        for path, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    )


def _tried(network: UserModel, model: nn.Module, batch: Any, stepping: Any) -> UserModel:
    """The network with what one forward and backward pass show."""
    parameters = [*model.parameters()]
    for p in parameters:
        p.grad = None
        p.requires_grad_(True)
    model.train()
    before, ran = bits_of(parameters), list[nn.Module]()
    with ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_hook(lambda m, *_: ran.append(m)).remove)
        outputs, loss = _outputs_and_loss(network, model, batch, stepping)
        after, passed = bits_of(parameters), len(ran)
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except FROM_USERS as error:
            raise _misfit(network, "backward raised", error) from None
    weights = tuple(
        each._replace(
            sparse=p.grad is not None and p.grad.is_sparse, renormed=before[i] != after[i]
        )
        for i, (each, p) in enumerate(zip(network.weights, parameters, strict=True))
    )
    return msgspec.structs.replace(
        network,
        one_output=isinstance(outputs, Tensor),
        weights=weights,
        autocasts=_autocasts(network, model, batch, stepping),
        recomputes=len(ran) > passed,
    )


def _outputs_and_loss(
    network: UserModel, model: nn.Module, batch: Any, stepping: Any
) -> tuple[Any, Tensor]:
    names = {"model": model, "x": batch}
    try:
        outputs = None if stepping else eval(network.call, names)
        loss = stepping(model, batch) if stepping else mean_square(outputs)
    except FROM_USERS as error:
        raise _misfit(network, "the forward pass raised", error) from None
    if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
        what = network.step or network.factory
        raise UsageError(
            f"the loss of {what!r} is {one_line(repr(loss), 80)}: it must be one number with a "
            "graph, on which backward() can be called"
        )
    return outputs, loss


def _misfit(network: UserModel, what: str, error: BaseException) -> UsageError:
    text = one_line(f"{type(error).__name__}: {error}", 200)
    batch = network.inputs or "the factory's inputs"
    return UsageError(
        f"{network.factory!r} cannot train on the batch {batch!r}, because {what} {text}; give "
        "--input what it takes, or a --training-step"
    )


def _autocasts(network: UserModel, model: nn.Module, batch: Any, stepping: Any) -> bool:
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, loss = _outputs_and_loss(network, model, batch, stepping)
        loss.float().backward()  # type: ignore[no-untyped-call]
    except Exception:  # it may raise anything
        return False
    return True
