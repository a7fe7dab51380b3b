"""The costs of one training step under one way to freeze: counted, not timed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from frostproof.applications.costs.task import CostTask, tensor_leaves
from frostproof.applications.costs.ways import ModelWay
from frostproof.training.flops import Flops, countable_kernels
from frostproof.training.saved_tensors import SavedForBackward, size, storages

BuildOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""Builds an optimizer from parameter groups, and makes it take its first step."""


class StepCosts(msgspec.Struct, frozen=True):
    """The costs of a forward pass, a backward pass, and the optimizer's first step.

    FLOPs are those of matrix products, convolutions and attention. Each storage counts once.
    """

    forward_flops: int
    backward_flops: int
    saved_bytes: int
    """Activations that the graph holds when backward begins. The batch, weights and buffers exist
    anyway, so they are counted in the next two fields as far as the graph refers to them."""
    input_bytes: int
    weight_bytes: int
    gradient_bytes: int
    """Of `.grad` after backward."""
    stale_bytes: int
    """Those of frozen parameters, which are included in `gradient_bytes`."""
    state_bytes: int | None = None
    """Of the optimizer's state; None if no optimizer was given."""
    untrained: tuple[str, ...] = ()
    """Trainable parameters that got no gradient."""


def count_costs(
    task: CostTask, way: ModelWay, optimizing: BuildOptimizer | None = None
) -> StepCosts:
    """The costs of a way that is not unfit, for a copy of the task's model.

    Restores the random number generators of the CPU and the settings of backends. Passes on any
    error of the model.
    """
    model, frozen = task.thawed(), task.frozen
    task = replace(task, inputs=tree_map(_copied, task.inputs))
    of_inputs = storages(tensor_leaves(task.inputs))
    of_weights = storages([*model.parameters(), *model.buffers()])
    way.freeze(model, frozen)
    with countable_kernels(model), _seeded(), torch.enable_grad():
        saving = SavedForBackward()
        with Flops() as forward, saving:
            outputs = way.forward(model, task)
        saved = saving.held()
        loss = task.loss(outputs)
        with Flops() as backward:
            way.backward(loss, model, frozen)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    gradient_bytes = size(gradients.values())
    stale_bytes = size(gradients[name] for name in gradients.keys() & frozen)
    state_bytes = None
    if optimizing is not None:
        way.after_backward(model, frozen)
        optimizer = optimizing(way.groups(model, frozen))
        state_bytes = size(tensor_leaves(dict(optimizer.state)))
    return StepCosts(
        forward_flops=forward.flops,
        backward_flops=backward.flops,
        saved_bytes=sum(
            saved[each] for each in saved.keys() - of_inputs.keys() - of_weights.keys()
        ),
        input_bytes=sum(saved[each] for each in saved.keys() & of_inputs.keys()),
        weight_bytes=sum(saved[each] for each in saved.keys() & of_weights.keys()),
        gradient_bytes=gradient_bytes,
        stale_bytes=stale_bytes,
        state_bytes=state_bytes,
        untrained=tuple(name for name in task.trainable if name not in gradients),
    )


def _copied(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers each time, so that layers that draw do the same work in every way."""
    state, python = torch.get_rng_state(), random.getstate()
    torch.manual_seed(0)
    random.seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        random.setstate(python)
