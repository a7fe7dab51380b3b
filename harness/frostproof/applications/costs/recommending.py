"""Which way to freeze a model, by what each costs, and what to mind with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import torch

from frostproof.applications.costs.counting import BuildOptimizer, StepCosts, count_costs
from frostproof.applications.costs.task import CostTask
from frostproof.applications.costs.ways import MODEL_WAYS, B, ModelWay
from frostproof.errors import UsageError, one_line
from frostproof.training.bits import bits_of
from frostproof.training.flops import comparable


class WayEstimate(msgspec.Struct, frozen=True):
    """A way and what it costs; where `costs` is None, `reason` says why it cannot be used."""

    way: str
    how: str
    costs: StepCosts | None
    reason: str = ""


def estimate_ways(task: CostTask, optimizing: BuildOptimizer | None) -> list[WayEstimate]:
    """Every way, the simplest first. Raises UsageError where the model cannot be trained at all."""
    try:
        plain = count_costs(task, B, optimizing)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's model raises
        raise UsageError(
            f"a training step raised {type(error).__name__}: {one_line(str(error), 200)}; make it work first"
        ) from None
    return [
        WayEstimate(way.name, way.how, plain)
        if way is B
        else _estimated(task, way, optimizing, plain)
        for way in MODEL_WAYS
    ]


def _estimated(
    task: CostTask, way: ModelWay, optimizing: BuildOptimizer | None, plain: StepCosts
) -> WayEstimate:
    if unfit := way.unfit(task):
        return WayEstimate(way.name, way.how, None, f"does not apply: {unfit}")
    costs, reason = None, ""
    try:
        costs = count_costs(task, way, optimizing)
    except UsageError as error:
        reason = str(error)
    except Exception as error:  # a way may be more than the model can take
        reason = f"raises {type(error).__name__}: {one_line(str(error), 120)}"
    left = (
        [name for name in costs.untrained if name not in plain.untrained]
        if costs is not None
        else []
    )
    return (
        WayEstimate(way.name, way.how, None, f"does not train {left[0]}")
        if left
        else WayEstimate(way.name, way.how, costs, reason)
    )


def cheapest_way(estimates: Sequence[WayEstimate]) -> WayEstimate:
    """The least backward FLOPs; of those the least saved, then gradient, then state bytes; of those the simplest."""
    usable = [(each.costs, each) for each in estimates if each.costs is not None]
    return min(usable, key=lambda pair: _rank(pair[0]))[1]


def _rank(costs: StepCosts) -> tuple[int, ...]:
    return (
        costs.backward_flops,
        costs.saved_bytes + costs.input_bytes,
        costs.gradient_bytes,
        costs.state_bytes or 0,
    )


def cost_remarks(task: CostTask, chosen: WayEstimate) -> Iterator[str]:
    """What to mind with this way, where it applies to this model."""
    moving = drifting_modules(task)
    if len(moving) == 1:
        yield f"module {moving[0]} is frozen, yet a forward pass changes its buffers: call .eval() on it after each model.train()"
    elif moving:
        these = f"modules {moving[0]} and {len(moving) - 1} more"
        yield f"{these} are frozen, yet a forward pass changes their buffers: call .eval() on them after each model.train()"
    if chosen.costs is not None and chosen.costs.stale_bytes:
        yield "gradients of what is frozen add up from step to step: zero them too, and clip_grad_norm_ over what trains alone"
    shared = dict(task.model.named_parameters(remove_duplicate=False))
    names: dict[int, list[str]] = {}
    for name, parameter in shared.items():
        names.setdefault(id(parameter), []).append(name)
    for each in names.values():
        if len(each) > 1 and each[0] in task.frozen:
            yield f"{' and '.join(each)} are one parameter: it is frozen under each name"


def drifting_modules(task: CostTask) -> list[str]:
    """Paths of modules that are frozen as a whole, and have buffers that a forward pass changes."""
    model = task.thawed()
    before = {
        path: bits_of(module.buffers(recurse=False)) for path, module in model.named_modules()
    }
    with comparable(model), torch.no_grad():
        model(*task.inputs)
    named = {
        path: [name for name, _ in module.named_parameters(prefix=path)]
        for path, module in model.named_modules()
    }
    changed = [
        path
        for path, module in model.named_modules()
        if bits_of(module.buffers(recurse=False)) != before[path]
    ]
    return [
        path
        for path in changed
        if task.frozen.issuperset(named[path] or named[path.rpartition(".")[0]])
    ]
