"""What freezing a part of a user's model costs: the answer of `frostproof cost`, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import torch
from torch.optim import Optimizer

from frostproof.applications.costs.counting import Optimizing
from frostproof.applications.costs.explaining import Layer, explained
from frostproof.applications.costs.model import EXAMPLE, batch, frozen_by, loaded
from frostproof.applications.costs.recommending import Estimate, estimated, recommended, remarks
from frostproof.applications.costs.task import Task
from frostproof.errors import UsageError, one_line
from frostproof.optimizers.targets import did_you_mean, import_for_target


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`frozen` and `trainable` name parameters; `recommended` names a way. Costs are of one step with these inputs."""

    format: Literal["frostproof-costs"] = "frostproof-costs"
    version: Literal[1] = 1
    torch: str
    model: str
    optimizer: str
    frozen: tuple[str, ...]
    trainable: tuple[str, ...]
    layers: tuple[Layer, ...]
    ways: tuple[Estimate, ...]
    recommended: str
    remarks: tuple[str, ...]


def report(
    target: str, patterns: Sequence[str], shape: str | None = None, optimizer: str = "AdamW"
) -> Report:
    """Count every way to freeze what `patterns` match in the model that `target` names. Raises UsageError."""
    model, inputs = loaded(target)
    optimizing = _optimizing(optimizer)
    if shape is not None:
        inputs = batch(model, shape)
    frozen = frozen_by(model, patterns)
    if inputs is None:
        raise UsageError(
            f"no input is known: give its shape, as {EXAMPLE}, or let {target} return a pair (model, inputs)"
        )
    task = Task(model, inputs, frozen)
    estimates = estimated(task, optimizing)
    chosen = recommended(estimates)
    notes = list(remarks(task, chosen))
    layers: list[Layer] = []
    try:
        layers = explained(task)
    except Exception as error:  # a model that trains, yet not with hooks on its modules
        notes.append(
            f"its modules cannot be told apart: {type(error).__name__}: {one_line(str(error), 200)}"
        )
    return Report(
        torch=str(torch.__version__),
        model=target,
        optimizer=optimizer,
        frozen=tuple(name for name, _ in model.named_parameters() if name in frozen),
        trainable=task.trainable,
        layers=tuple(layers),
        ways=tuple(estimates),
        recommended=chosen.way,
        remarks=tuple(notes),
    )


def _optimizing(name: str) -> Optimizing:
    """What builds this optimizer, of torch.optim or as module:Name, and takes a step. Raises UsageError."""
    module_name, _, attribute = name.rpartition(":")
    module: Any = import_for_target(module_name, name) if module_name else torch.optim
    found = getattr(module, attribute, None)
    if not callable(found):
        known = [
            each
            for each, kind in vars(module).items()
            if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
        ]
        raise UsageError(
            f"unknown optimizer {name!r}: give one of {', '.join(known[:20])}.{did_you_mean(attribute, known)}"
        )

    def step(groups: list[dict[str, Any]]) -> Optimizer:
        try:
            optimizer: Optimizer = found(groups)
            optimizer.step()
        except Exception as error:  # whatever an optimizer raises
            text = f"{type(error).__name__}: {one_line(str(error), 160)}"
            raise UsageError(
                f"--optimizer {name} cannot train this ({text}): name another"
            ) from None
        return optimizer

    return step
