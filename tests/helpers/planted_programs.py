"""Planted bugs that need a program.

They show only once a parameter was frozen midway, thawed, added, saved, or handled twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from frostproof.approaches.approach import Parameters, RequiresGrad
from tests.helpers.broken import Sound
from tests.helpers.broken_programs import (
    AveragesOverPasses,
    ClearsWhatRequiredGradAtFirst,
    CoolsMomentum,
    CountsWhatIsFrozen,
    DrawsForWhatItKnows,
    EnablesWhatItKnows,
    ForgetsWhenAdding,
    InitialGroupsOnly,
    ListsOfMomentum,
    LoadingThaws,
    LoadsInOrder,
    LoadsStateOfEach,
    MovesAtRefreezing,
    MovesFirstTwo,
    MovesFromThirdStep,
    MovesWhenTheRateChanges,
    NeverForgivesNone,
    PullsToSlowWeights,
    RollsOn,
    RollsOnInBFloat16,
    RollsOnInSecondGroup,
    SavesWhatTrains,
    ScalesAddedGroup,
    SecondClosureWithoutGrad,
    StateByPosition,
    StateByRank,
    StateInConstructorOnly,
    SwapsFrozenInEval,
    TrainsWhatRequiredGradAtFirst,
)
from tests.helpers.planted import HARD, Planted

# Freezing helpers


@dataclass(frozen=True)
class FreezesAtFirstOnly(RequiresGrad):
    """Looks at the mask once."""

    def freeze(self, model: nn.Sequential, frozen: Parameters) -> None:
        if all(
            parameter.requires_grad and parameter.grad is None for parameter in model.parameters()
        ):
            super().freeze(model, frozen)


@dataclass(frozen=True)
class ThawsWeightsOnly(RequiresGrad):
    """Forgets the biases."""

    def thaw(self, thawed: Parameters) -> None:
        super().thaw([parameter for parameter in thawed if parameter.dim() > 1])


@dataclass(frozen=True)
class ThawsBetweenPasses(RequiresGrad):
    """Makes everything require grad again when it accumulates."""

    def between_passes(self, frozen: Parameters) -> None:
        for parameter in frozen:
            parameter.requires_grad_(True)


PROGRAM_BUGS = (
    Planted("freeze-midway-holds", RollsOn, smallest=(1, 2)),
    Planted("freeze-midway-holds", RollsOnInSecondGroup, HARD, smallest=(1, 2)),
    Planted("gradless-step-is-noop", RollsOnInBFloat16, HARD, smallest=(1, 2)),
    Planted("freeze-midway-holds", CountsWhatIsFrozen, smallest=(1, 2)),
    Planted("freeze-midway-holds", CoolsMomentum, smallest=(1, 2)),
    Planted("freeze-midway-holds", PullsToSlowWeights, HARD, smallest=(1, 2)),
    Planted("gradless-step-is-noop", StateByRank, smallest=(1, 2)),
    Planted("freeze-midway-holds", StateByPosition, HARD, smallest=(1, 2)),
    Planted("gradless-step-is-noop", MovesAtRefreezing, HARD, smallest=(1, 4)),
    Planted("gradless-step-is-noop", MovesFromThirdStep, smallest=(1, 3)),
    Planted("frozen-weights-unchanged", MovesFirstTwo, smallest=(1, 1)),
    Planted("frozen-weights-unchanged", MovesWhenTheRateChanges, HARD, smallest=(1, 3)),
    Planted("frozen-weights-unchanged", SwapsFrozenInEval, HARD, smallest=(1, 1)),
    Planted("thaw-resumes", TrainsWhatRequiredGradAtFirst, smallest=(1, 2)),
    Planted("thaw-resumes", NeverForgivesNone, HARD, smallest=(1, 3)),
    Planted("thaw-resumes", ListsOfMomentum, HARD, smallest=(1, 3)),
    Planted("zero-grad-clears", ClearsWhatRequiredGradAtFirst, HARD, smallest=(1, 3)),
    Planted("flags-untouched", EnablesWhatItKnows, smallest=(1, 2)),
    Planted("repeats-itself", DrawsForWhatItKnows, HARD, smallest=(1, 2)),
    Planted("group-added-trains", InitialGroupsOnly, smallest=(1, 2)),
    Planted("group-added-trains", StateInConstructorOnly, smallest=(1, 1)),
    Planted("group-added-trains", ScalesAddedGroup, HARD, smallest=(1, 2)),
    Planted("group-added-trains", ForgetsWhenAdding, HARD, smallest=(1, 2)),
    Planted("checkpoint-resumes", LoadsInOrder, smallest=(1, 3)),
    Planted("checkpoint-resumes", LoadsStateOfEach, smallest=(1, 1)),
    Planted("checkpoint-resumes", SavesWhatTrains, HARD, smallest=(1, 3)),
    Planted("flags-untouched", LoadingThaws, HARD, smallest=(1, 1)),
    Planted("trainable-updates-match", AveragesOverPasses, smallest=(1, 1)),
    Planted("closure-is-honoured", SecondClosureWithoutGrad, HARD, smallest=(1, 2)),
    Planted("no-grad-allocated", Sound, a=FreezesAtFirstOnly(), smallest=(1, 2)),
    Planted("gradients-pass-through", Sound, HARD, a=ThawsWeightsOnly(), smallest=(1, 2)),
    Planted("no-grad-allocated", Sound, HARD, a=ThawsBetweenPasses(), smallest=(1, 1)),
)
"""Each with the layers and events of the smallest case that shows it."""
