"""What freezing a part of a user's model costs: the answer of `frostproof cost`, as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
import torch
from torch import nn
from torch.optim import Optimizer

from frostproof.applications.costs.counting import BuildOptimizer, StepCosts
from frostproof.applications.costs.explaining import LayerCost, layer_costs
from frostproof.applications.costs.recommending import (
    WayEstimate,
    cheapest_way,
    cost_remarks,
    estimate_ways,
    forward_remark,
    nothing_frozen,
    upstream_remark,
)
from frostproof.applications.costs.task import CostTask, mean_square_loss
from frostproof.errors import FROM_USERS, UsageError, one_line
from frostproof.spec.patterns import listed, matching
from frostproof.training.user_models import (
    frozen_names,
    load_model,
    load_optimizer,
    load_step,
)


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """The costs of one step with the given inputs."""

    format: Literal["frostproof-costs"] = "frostproof-costs"
    version: Literal[1] = 1
    torch: str
    model: str
    optimizer: str
    frozen: tuple[str, ...]
    """Names of parameters."""
    trainable: tuple[str, ...]
    layers: tuple[LayerCost, ...]
    nothing_frozen: StepCosts | None
    """For comparison; None if the model cannot train all of its parameters."""
    ways: tuple[WayEstimate, ...]
    recommended: str
    """The name of a way."""
    remarks: tuple[str, ...]
    upstream: str | None = None
    """The remark about what trains before frozen modules, if that costs much."""


def cost_report(
    target: str,
    patterns: Sequence[str],
    inputs: str | None = None,
    optimizer: str = "AdamW",
    step: str | None = None,
) -> CostReport:
    """Count every way to freeze the parameters that match `patterns` in the model at `target`.

    `inputs`: the sizes of a batch, or `module:name` of a function that returns one. `step`:
    `module:name` of a function of the model and a batch that returns the loss. Raises UsageError.
    """
    loaded = load_model(target)
    model = loaded.model
    optimizing = _build_optimizer(optimizer)
    frozen = frozen_names(model, patterns)
    task = _task(model, loaded.batch(target, inputs), frozen, load_step(step))
    estimates = estimate_ways(task, optimizing)
    chosen = cheapest_way(estimates)
    notes = [*_frozen_before(task, patterns), *_compiled(model), *cost_remarks(task, chosen)]
    layers: list[LayerCost] = []
    upstream = None
    try:
        layers = layer_costs(task)
        upstream = upstream_remark(task, layers)
        notes += filter(None, [forward_remark(task, layers)])
    except Exception as error:  # the model trains, but not with hooks on its modules
        text = f"{type(error).__name__}: {one_line(str(error), 200)}"
        notes.append(f"the costs of single modules cannot be counted: {text}")
    return CostReport(
        torch=str(torch.__version__),
        model=target,
        optimizer=optimizer,
        frozen=tuple(name for name, _ in model.named_parameters() if name in frozen),
        trainable=task.trainable,
        layers=tuple(layers),
        nothing_frozen=nothing_frozen(task, optimizing),
        ways=tuple(estimates),
        recommended=chosen.way,
        remarks=(*notes, *([upstream] if upstream else [])),
        upstream=upstream,
    )


def _task(model: nn.Module, batch: Any, frozen: frozenset[str], step: Any) -> CostTask:
    """The task of a model that is called with a tensor, a tuple or a dict, or by its step."""
    if step is not None:
        return CostTask(model, (batch,), frozen, step)
    if isinstance(batch, dict):
        return CostTask(
            model, (batch,), frozen, lambda model, named: mean_square_loss(model(**named))
        )
    return CostTask(model, tuple(batch) if isinstance(batch, tuple | list) else (batch,), frozen)


def _frozen_before(task: CostTask, patterns: Sequence[str]) -> Iterator[str]:
    """What the model's own code has frozen beside what the patterns freeze."""
    every = dict(task.model.named_parameters(remove_duplicate=False))
    asked = {id(every[name]) for name in matching(patterns, [*every], "--freeze")}
    others = [n for n, p in every.items() if n in task.frozen and id(p) not in asked]
    if others and patterns:
        verb = "is" if len(others) == 1 else "are"
        yield f"{listed(others)} {verb} frozen as the model was built"


def _compiled(model: nn.Module) -> Iterator[str]:
    """That a model which torch.compile has wrapped is not counted as it runs."""
    if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
        yield (
            "the model is compiled, and is counted as if it were not; compiled, "
            "backward(inputs=...) computes the gradients of all parameters that require grad"
        )


def _build_optimizer(name: str) -> BuildOptimizer:
    """The builder of an optimizer of torch.optim, or of `module:Name`. Raises UsageError."""
    found = load_optimizer(name, "an optimizer class")

    def step(groups: list[dict[str, Any]]) -> Optimizer:
        try:
            optimizer: Optimizer = found(groups)
            optimizer.step()
        except FROM_USERS as error:
            text = f"{type(error).__name__}: {one_line(str(error), 160)}"
            raise UsageError(
                f"--optimizer {name} cannot train this ({text}): name another class, which takes "
                "groups of parameters"
            ) from None
        return optimizer

    return step
