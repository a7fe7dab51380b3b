"""The costs of one training step under one way of freezing: counted, not timed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from frostproof.applications.costs.task import CostTask, mean_square_loss, tensors_in
from frostproof.applications.costs.ways import ModelWay
from frostproof.training.flops import Flops, comparable
from frostproof.training.saved_tensors import SavedForBackward, size, storages

BuildOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""Builds an optimizer from parameter groups, and has it take its first step."""


class StepCosts(msgspec.Struct, frozen=True):
    """One step: forward, backward, and the optimizer's first step.

    FLOPs are those of matrix products, convolutions and attention. `saved_bytes`: activations that the graph of the forward
    pass holds when backward begins; of the batch, and of weights and buffers, which are there anyway, `input_bytes` and
    `weight_bytes` say how much of them it refers to. `gradient_bytes`: of `.grad` after backward, `stale_bytes` of them of what is
    frozen; `state_bytes`: of the optimizer's state, None where it was not asked for. Each storage counts once. `untrained`:
    what ought to train, and got no gradient.
    """

    forward_flops: int
    backward_flops: int
    saved_bytes: int
    input_bytes: int
    weight_bytes: int
    gradient_bytes: int
    stale_bytes: int
    state_bytes: int | None = None
    untrained: tuple[str, ...] = ()


def count_costs(
    task: CostTask, way: ModelWay, optimizing: BuildOptimizer | None = None
) -> StepCosts:
    """The costs of a way that is not unfit, for a copy of the task's model. The CPU's RNG, and what was set of backends, are put back.

    Whatever the model raises comes through.
    """
    model = task.thawed()
    frozen = task.frozen
    inputs = tree_map(
        lambda each: each.detach().clone() if isinstance(each, Tensor) else each, task.inputs
    )
    given = storages(tensors_in(inputs))
    kept = storages([*model.parameters(), *model.buffers()])
    way.freeze(model, frozen)
    with comparable(model), _seeded(), torch.enable_grad():
        saving = SavedForBackward()
        with Flops() as forward, saving:
            outputs = way.forward(model, inputs, frozen)
        held = saving.held()
        loss = mean_square_loss(outputs)
        with Flops() as backward:
            way.backward(loss, model, frozen)
    parameters = dict(model.named_parameters())
    gradients = {
        name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None
    }
    gradient_bytes, stale_bytes = (
        size(gradients.values()),
        size(gradients[name] for name in gradients.keys() & frozen),
    )
    state_bytes = None
    if optimizing is not None:
        way.after_backward(model, frozen)
        optimizer = optimizing(way.groups(model, frozen))
        state_bytes = size(tensors_in(dict(optimizer.state)))
    return StepCosts(
        forward_flops=forward.flops,
        backward_flops=backward.flops,
        saved_bytes=sum(held[each] for each in held.keys() - given.keys() - kept.keys()),
        input_bytes=sum(held[each] for each in held.keys() & given.keys()),
        weight_bytes=sum(held[each] for each in held.keys() & kept.keys()),
        gradient_bytes=gradient_bytes,
        stale_bytes=stale_bytes,
        state_bytes=state_bytes,
        untrained=tuple(name for name in task.trainable if name not in gradients),
    )


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers each time, so that layers which draw do the same work under every way."""
    state, python = torch.get_rng_state(), random.getstate()
    torch.manual_seed(0)
    random.seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        random.setstate(python)
