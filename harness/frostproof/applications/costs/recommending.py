"""Which way to freeze a model is the cheapest, and what to watch out for with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec
import torch

from frostproof.applications.costs.counting import BuildOptimizer, StepCosts, count_costs
from frostproof.applications.costs.explaining import LayerCost
from frostproof.applications.costs.task import CostTask
from frostproof.applications.costs.ways import MODEL_WAYS, A, B, ModelWay
from frostproof.errors import FROM_USERS, UsageError, one_line
from frostproof.spec.patterns import listed
from frostproof.training.bits import bits_of
from frostproof.training.flops import countable_kernels
from frostproof.training.frozen_parts import frozen_parts


class WayEstimate(msgspec.Struct, frozen=True):
    """A way and its costs. If `costs` is None, `reason` says why the way cannot be used."""

    way: str
    how: str
    costs: StepCosts | None
    reason: str = ""


def nothing_frozen(task: CostTask, optimizing: BuildOptimizer | None) -> StepCosts | None:
    """The costs if every parameter trained; None if the model cannot be trained so."""
    with suppress(Exception):  # a model may rely on what it freezes
        return count_costs(replace(task, frozen=frozenset()), A, optimizing)
    return None


def estimate_ways(task: CostTask, optimizing: BuildOptimizer | None) -> list[WayEstimate]:
    """Every way, the simplest first. Raises UsageError if the model cannot be trained at all."""
    try:
        plain = count_costs(task, B, optimizing)
    except UsageError:
        raise
    except FROM_USERS as error:
        text = f"{type(error).__name__}: {one_line(str(error), 200)}"
        raise UsageError(
            f"a training step raised {text}; give --input what the model takes, "
            "or a --training-step"
        ) from None
    return [
        WayEstimate(way.name, way.how, plain)
        if way is B
        else _estimate(task, way, optimizing, plain)
        for way in MODEL_WAYS
    ]


def _estimate(
    task: CostTask, way: ModelWay, optimizing: BuildOptimizer | None, plain: StepCosts
) -> WayEstimate:
    if unfit := way.unfit(task):
        return WayEstimate(way.name, way.how, None, f"does not apply: {unfit}")
    try:
        costs = count_costs(task, way, optimizing)
    except UsageError as error:
        return WayEstimate(way.name, way.how, None, str(error))
    except Exception as error:  # a model may support some ways only
        reason = f"raises {type(error).__name__}: {one_line(str(error), 120)}"
        return WayEstimate(way.name, way.how, None, reason)
    for name in costs.untrained:
        if name not in plain.untrained:
            return WayEstimate(way.name, way.how, None, f"does not train {name}")
    return WayEstimate(way.name, way.how, costs)


def cheapest_way(estimates: Sequence[WayEstimate]) -> WayEstimate:
    """The way with the fewest backward FLOPs.

    Ties are decided by saved bytes, then by gradient bytes, then by state bytes, and then go to
    the simplest way.
    """
    usable = [(each.costs, each) for each in estimates if each.costs is not None]
    return min(usable, key=lambda pair: _rank(pair[0]))[1]


def _rank(costs: StepCosts) -> tuple[int, ...]:
    saved = costs.saved_bytes + costs.input_bytes
    return costs.backward_flops, saved, costs.gradient_bytes, costs.state_bytes or 0


def cost_remarks(task: CostTask, chosen: WayEstimate) -> Iterator[str]:
    """What else is to be known of this model, and of this way with it."""
    training = [module.training for module in task.model.modules()]
    if not all(training):
        yield (
            f"eval mode of {training.count(False)} of the {len(training)} modules, as the model "
            "was built: norms and dropout in train mode cost more"
        )
    drifting = drifting_modules(task)
    if drifting:
        yield (
            f"frozen modules have buffers that a forward pass changes, {listed(drifting)}: call "
            ".eval() on them after each model.train()"
        )
    if chosen.costs is not None and chosen.costs.stale_bytes:
        yield (
            "gradients of frozen parameters add up from step to step: zero them too, and apply "
            "clip_grad_norm_ to trainable parameters only"
        )
    names: dict[int, list[str]] = {}
    for name, parameter in task.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for each in names.values():
        if len(each) > 1 and each[0] in task.frozen:
            yield f"{' and '.join(each)} are one parameter: it is frozen under each name"


def upstream_remark(task: CostTask, layers: Sequence[LayerCost]) -> str | None:
    """What A would save if nothing trained before the frozen modules that backward goes through.

    It is counted, and told from a tenth of the backward FLOPs on.
    """

    def holds(layer: LayerCost, names: Iterable[str]) -> bool:
        return any(name.startswith(f"{layer.path}.") for name in names)

    frozen = (each for each in layers if each.frozen == each.weights > 0)
    passed = [each for each in frozen if each.input_flops and not holds(each, task.trainable)]
    names = [name for name, _ in task.model.named_parameters()]
    behind = [i for i, name in enumerate(names) for at in passed if holds(at, [name])]
    more = [name for name in names[: max(behind, default=0)] if name not in task.frozen]
    if not more or len(more) == len(task.trainable):
        return None
    full = sum(each.weight_flops + each.input_flops for each in layers)
    with suppress(Exception):  # a model may rely on what it trains
        less = count_costs(replace(task, frozen=task.frozen | {*more}), A).backward_flops
        if 10 * (full - less) >= full:
            return (
                f"backward goes through frozen modules ({listed([e.path for e in passed])}), as "
                f"what comes before them trains ({listed(more)}): with that frozen, too, it would "
                f"take {less:,} FLOPs and not {full:,}"
            )
    return None


def forward_remark(task: CostTask, layers: Sequence[LayerCost]) -> str | None:
    """What the forward pass of a frozen beginning takes, which no way to freeze saves.

    It is told from half of the forward FLOPs on.
    """
    trains = (i for i, each in enumerate(layers) if each.frozen < each.weights)
    before = layers[: next(trains, 0)]
    frozen, full = (sum(each.forward_flops for each in some) for some in (before, layers))
    if 2 * frozen < full or not frozen:
        return None
    return (
        f"no way saves the forward pass of what is frozen before the first that trains, "
        f"{frozen:,} of {full:,} FLOPs: if it is in eval mode and sees the same inputs in each "
        "epoch, compute its outputs once, and train on these"
    )


def drifting_modules(task: CostTask) -> list[str]:
    """Paths of modules in frozen parts that have buffers that a forward pass changes."""
    model = task.thawed()
    modules = dict(model.named_modules())
    before = {path: bits_of(module.buffers(recurse=False)) for path, module in modules.items()}
    with countable_kernels(model), torch.no_grad():
        task.outputs(model)
    parts = frozen_parts(model, lambda name, p: name in task.frozen)
    return [
        path
        for path, module in modules.items()
        if path in parts and bits_of(module.buffers(recurse=False)) != before[path]
    ]
