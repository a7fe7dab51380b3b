"""Which optimizers have a bug that only a setting shows, and which only look like it."""

from __future__ import annotations

from tests.helpers import broken_settings as own
from tests.helpers import broken_shards as shards
from tests.helpers.broken import Sound

BUGS: dict[str, dict[type[Sound], str]] = {
    "compiled": {
        own.DecaysWhenCompiled: "frozen-weights-unchanged",
        own.ZerosWhenCompiled: "freeze-midway-holds",
        own.KnowsFirstGradientsWhenCompiled: "group-added-trains",
        own.AllocatesWhenCompiled: "no-state-for-frozen",
        own.LeavesDecayOutWhenCompiled: "compiled-step-agrees",
        own.CountsInAList: "compiled-step-settles",
    },
    "ddp": {
        own.DecaysOnOneRank: "frozen-weights-unchanged",
        own.BroadcastsFromOneThatDecays: "frozen-weights-unchanged",
        own.SkipsCollective: "gradless-step-is-noop",
        own.WaitsForWhatThaws: "thaw-resumes",
        own.ReducesIntoMissingGradients: "gradless-step-is-noop",
        own.DrawsByRank: "ranks-agree",
        own.SavesFrozenOnFirstRank: "checkpoint-resumes",
        own.ShardsByGradients: "trains-as-alone",
    },
    "fsdp2": {
        shards.DecaysShards: "frozen-weights-unchanged",
        shards.ZerosForMissingShards: "freeze-midway-holds",
        shards.AllocatesShards: "no-state-for-frozen",
        shards.FillsMissingShards: "gradless-step-is-noop",
        shards.NormsWithoutFirstRank: "gradless-step-is-noop",
        shards.KnowsFirstShards: "group-added-trains",
    },
    "zero": {
        shards.DividesByOwnNorm: "trainable-updates-match",
        shards.SkipsRanksThatRest: "gradless-step-is-noop",
        shards.DecaysWhereAllRests: "gradless-step-is-noop",
    },
}
"""Setting -> optimizers with a bug that only it shows -> the invariant that they break."""

CORRECT: dict[str, tuple[type[Sound], ...]] = {
    "compiled": (
        own.HasTwoCodes,
        own.BreaksItsGraph,
        own.ActsAtEachFourthStep,
        own.RoundsWhenCompiled,
        own.AmplifiesWhatItRounds,
    ),
    "ddp": (own.ShardsByPosition, own.BroadcastsAll, own.CountsGradients, own.AveragesWeights),
    "fsdp2": (shards.StepsShards, shards.DividesByWholeNorm),
    "zero": (shards.CountsAllGradients,),
}
