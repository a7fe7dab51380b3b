"""Planted bugs: optimizers and freezing helpers, and for each the invariant that must report it.

A bug is easy (nearly any case shows it) or HARD (it takes a certain dtype,
group, nesting, or more than one step).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostproof.approaches.approach import (
    Approach,
    Approaches,
    OptimizerSubset,
    Parameters,
    RequiresGrad,
    SubsetCleared,
    SubsetSecondOptimizer,
)
from frostproof.optimizers.discovery import subjects
from frostproof.spec.subject import AUTOGRAD, Subject
from tests.helpers.broken import (
    AllocatesGradient,
    ClampsFromThirdStep,
    ClearsFirstGroup,
    ClearsTrainableOnly,
    ClosureWithoutGrad,
    DecaysEverything,
    DecaysSecondGroup,
    DependsOnAddress,
    DrawsForFrozen,
    EnablesRequiresGrad,
    IgnoresClosure,
    KeepsRolling,
    LeaksGradMode,
    NoneAsZeros,
    RateByCount,
    RateByPosition,
    RateByPositionInBFloat16,
    ReadsMissingGradient,
    ReordersGroup,
    ReturnsNothing,
    SeedsFromTheSystem,
    SkipsWithoutEveryGradient,
    Sound,
    StateFromTheStart,
    StateInSecondGroup,
    StopsAtFirstNone,
    StopsUnderDecayAndMomentum,
    ZeroGradAllocates,
)

# Freezing helpers


@dataclass(frozen=True)
class FreezesWeightsOnly(RequiresGrad):
    """Forgets the biases."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, [parameter for parameter in frozen if parameter.dim() > 1])


@dataclass(frozen=True)
class SetsModuleAttribute(RequiresGrad):
    """`module.requires_grad = False` is an attribute that nobody reads."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        for module in model.modules():
            module.requires_grad = False  # type: ignore[assignment]


@dataclass(frozen=True)
class FreezesTopLevelOnly(RequiresGrad):
    """Loops over the children, and misses what is nested."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        direct = {id(p) for child in model for p in child.parameters(recurse=False)}
        super().freeze(model, [parameter for parameter in frozen if id(parameter) in direct])


@dataclass(frozen=True)
class InputRequiresGrad(RequiresGrad):
    """Makes the batch require grad, as recipes for checkpointing do."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model[0].register_forward_pre_hook(
            lambda module, inputs: tuple(
                x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs
            )
        )


@dataclass(frozen=True)
class GatesFrozen(RequiresGrad):
    """Puts a gate behind each frozen layer, to open it slowly later, and so keeps its output."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        for module in _frozen_modules(model, frozen):
            module.register_forward_hook(
                lambda module, inputs, output: output * torch.ones_like(output).requires_grad_()
            )


@dataclass(frozen=True)
class KeepsGraphAlive(RequiresGrad):
    """Adds a leaf that requires grad to the output, so that a frozen model has a backward pass."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model.register_forward_hook(
            lambda module, inputs, output: (
                output + torch.zeros((), dtype=output.dtype, requires_grad=True)
            )
        )


@dataclass(frozen=True)
class TurnsGradOn(RequiresGrad):
    """Switches gradients on in the middle of a forward pass."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model[-1].register_forward_pre_hook(
            lambda module, inputs: torch.set_grad_enabled(True) and None
        )


@dataclass(frozen=True)
class DetachesFrozen(RequiresGrad):
    """Detaches the output of a frozen layer, though something below it still trains."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        for module in _frozen_modules(model, frozen):
            module.register_forward_hook(lambda module, inputs, output: output.detach())


@dataclass(frozen=True)
class ScalesGradientThroughNorms(RequiresGrad):
    """Doubles the gradient on its way through a frozen normalisation."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        for module in _frozen_modules(model, frozen):
            if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
                module.register_forward_hook(
                    lambda module, inputs, output: output * 2 - output.detach()
                )


@dataclass(frozen=True)
class TrainsFrozenBatchNorm(RequiresGrad):
    """Calls model.train() at each forward pass."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        model.register_forward_pre_hook(lambda module, inputs: module.train() and None)


@dataclass(frozen=True)
class CountsBatchesInNested(RequiresGrad):
    """Counts batches in a nested batch norm whatever its mode."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        super().freeze(model, frozen)
        for path, module in model.named_modules():
            if "." in path and isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.register_forward_hook(
                    lambda module, inputs, output: module.num_batches_tracked.add_(1) and None
                )


def _frozen_modules(model: nn.Sequential, frozen: Parameters) -> Iterable[nn.Module]:
    ids = set(map(id, frozen))
    return [
        module
        for module in model.modules()
        if (own := list(module.parameters(recurse=False))) and ids.issuperset(map(id, own))
    ]


@dataclass(frozen=True)
class SubsetThatAddsStale(OptimizerSubset):
    """Mixes the gradients that earlier steps left behind into those of what is trained."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        ids = set(map(id, frozen))
        left = {"sum": 0.0}

        def remember(module: nn.Module, inputs: Any) -> None:
            left["sum"] = sum(
                float(p.grad.to_dense().abs().sum()) for p in frozen if p.grad is not None
            )

        model.register_forward_pre_hook(remember)
        for parameter in model.parameters():
            if id(parameter) not in ids:
                hooks = parameter.register_post_accumulate_grad_hook
                hooks(lambda p: _scale(p, 1 + left["sum"]))  # type: ignore[no-untyped-call]


def _scale(parameter: Tensor, factor: float) -> None:
    if parameter.grad is not None:
        parameter.grad.mul_(factor)


class StepsOnZeroGrad(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:
        self.step()
        super().zero_grad(set_to_none)


@dataclass(frozen=True)
class SecondOptimizerSteps(SubsetSecondOptimizer):
    def companion(self, frozen: Parameters) -> Optimizer | None:
        return StepsOnZeroGrad(frozen, lr=0.1) if frozen else None


@dataclass(frozen=True)
class SubsetThatClears(OptimizerSubset):
    """Leaves no gradient on frozen parameters.

    It is not a subclass of B-cleared, so that its script has a function to mend.
    """

    def clear(self, frozen: Parameters) -> None:
        self.between_passes(frozen)

    def between_passes(self, frozen: Parameters) -> None:
        for parameter in frozen:
            parameter.grad = None


@dataclass(frozen=True)
class SubsetThatClamps(OptimizerSubset):
    def clear(self, frozen: Parameters) -> None:
        for parameter in frozen:
            if parameter.grad is not None and not parameter.grad.is_sparse:
                parameter.grad.clamp_(-0.1, 0.1)


class Planted(NamedTuple):
    """A bug: what is broken, the invariant that must report it, and whether that is hard.

    Without an optimizer it is a bug of autograd alone.
    `smallest`: layers and events of the smallest case that shows it.
    """

    invariant: str
    optimizer: type[Optimizer] | None
    hard: bool = False
    smallest: tuple[int, int] = (1, 1)
    a: Approach = RequiresGrad()
    b: Approach = OptimizerSubset()
    cleared: Approach = SubsetCleared()
    second: Approach = SubsetSecondOptimizer()

    @property
    def subject(self) -> Subject:
        """What the search is of: the optimizer, or autograd alone."""
        return AUTOGRAD if self.optimizer is None else subjects(self.optimizer)[0]

    @property
    def name(self) -> str:
        ways = (self.a, self.b, self.cleared, self.second)
        broken = [each for each in ways if type(each).__module__ != RequiresGrad.__module__]
        return (
            type(broken[0]).__name__
            if broken
            else self.optimizer.__name__
            if self.optimizer
            else "nothing"
        )

    @property
    def approaches(self) -> Approaches:
        return Approaches(self.a, self.b, self.cleared, self.second)


HARD = True
BUGS = (
    Planted("frozen-weights-unchanged", DecaysEverything),
    Planted("frozen-weights-unchanged", NoneAsZeros),
    Planted("frozen-weights-unchanged", DecaysSecondGroup, HARD),
    Planted("frozen-weights-unchanged", ClampsFromThirdStep, HARD),
    Planted("trainable-updates-match", RateByPosition),
    Planted("trainable-updates-match", RateByCount),
    Planted("trainable-updates-match", StopsAtFirstNone, HARD),
    Planted("trainable-updates-match", RateByPositionInBFloat16, HARD),
    Planted("no-grad-allocated", Sound, a=SetsModuleAttribute()),
    Planted("no-grad-allocated", Sound, a=FreezesWeightsOnly()),
    Planted("no-grad-allocated", None, HARD, a=FreezesTopLevelOnly()),
    Planted("no-graph-below", None, a=SetsModuleAttribute()),
    Planted("no-graph-below", None, a=InputRequiresGrad()),
    Planted("no-graph-below", None, HARD, a=FreezesTopLevelOnly()),
    Planted("no-grad-backward-raises", None, a=KeepsGraphAlive()),
    Planted("no-grad-backward-raises", DecaysEverything),
    Planted("no-grad-backward-raises", None, HARD, a=TurnsGradOn()),
    Planted("gradients-pass-through", None, a=DetachesFrozen()),
    Planted("gradients-pass-through", Sound, HARD, a=ScalesGradientThroughNorms()),
    Planted("gradless-step-is-noop", ReadsMissingGradient),
    Planted("gradless-step-is-noop", AllocatesGradient),
    Planted("gradless-step-is-noop", KeepsRolling, HARD),
    Planted("flags-untouched", EnablesRequiresGrad),
    Planted("flags-untouched", LeaksGradMode, HARD),
    Planted("flags-untouched", ReordersGroup, HARD),
    Planted("closure-is-honoured", IgnoresClosure),
    Planted("closure-is-honoured", ReturnsNothing),
    Planted("closure-is-honoured", ClosureWithoutGrad, HARD),
    Planted("zero-grad-clears", ClearsTrainableOnly),
    Planted("zero-grad-clears", ZeroGradAllocates),
    Planted("zero-grad-clears", ClearsFirstGroup, HARD),
    Planted("repeats-itself", DrawsForFrozen),
    Planted("repeats-itself", SeedsFromTheSystem),
    Planted("repeats-itself", DependsOnAddress, HARD),
    Planted("stale-grads-harmless", Sound, second=SecondOptimizerSteps()),
    Planted("stale-grads-harmless", Sound, HARD, b=SubsetThatAddsStale()),
    Planted("stale-grads-accumulate", Sound, b=SubsetThatClears()),
    Planted("stale-grads-accumulate", None, HARD, b=SubsetThatClamps()),
    Planted("buffers-hold-in-eval", None, a=TrainsFrozenBatchNorm()),
    Planted("buffers-hold-in-eval", None, HARD, a=CountsBatchesInNested()),
    Planted("trainable-moves", SkipsWithoutEveryGradient),
    Planted("trainable-moves", StopsUnderDecayAndMomentum, HARD),
    Planted("no-state-for-frozen", StateFromTheStart),
    Planted("no-state-for-frozen", StateInSecondGroup, HARD),
    Planted("cost-bounded", None, a=GatesFrozen()),
    Planted("cost-bounded", None, HARD, a=InputRequiresGrad()),
)
