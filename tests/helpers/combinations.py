"""Planted bugs in optimizers that are built and stepped in every way that the harness knows.

For each bug there is a case that shows it at once, which is fitted to what a protocol can do.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from torch.optim import Optimizer

from frostproof.counterexamples.script import script
from frostproof.generation.cases import split_into_groups
from frostproof.generation.programs import adapt_event
from frostproof.invariants.registry import BY_ID
from frostproof.optimizers.discovery import has_modes, subjects
from frostproof.optimizers.probe import probe
from frostproof.process.fence import fenced
from frostproof.spec.architecture import Architecture, Input
from frostproof.spec.case import Case
from frostproof.spec.layers import AnyLayer, BatchNorm1d, LayerNorm, Linear, Sequential
from frostproof.spec.program import (
    AnyEvent,
    BackwardUnderNoGrad,
    Eval,
    Freeze,
    Program,
    SaveLoad,
    SetLr,
    Step,
    Thaw,
)
from frostproof.spec.subject import Subject
from frostproof.verification.verification import Verification
from tests.helpers import crossed
from tests.helpers.broken import Sound
from tests.helpers.planted import BUGS, Planted
from tests.helpers.planted_programs import PROGRAM_BUGS
from tests.helpers.protocols import (
    PROTOCOLS,
    ClearsItsWay,
    ClosureRequired,
    Fused,
    Moded,
    NeedsMomentum,
    OneDtype,
    OwnGroups,
    Sam,
    TwoLists,
    WarmsUp,
    Wrapping,
)

PLANTED = (*BUGS, *PROGRAM_BUGS)

LOWER, UPPER = ("0.weight", "0.bias"), ("1.weight", "1.bias")
OPTIONS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
STEP, DROP, FREEZE = Step(), Step(drop="first"), Freeze(LOWER)
MIDWAY: Program = (STEP, FREEZE, STEP)
THAWED: dict[str, Any] = {"program": (STEP, Thaw(UPPER), STEP), "mask": UPPER}
UNLIKE: dict[str, Any] = {"program": MIDWAY, "mask": (), "layers": (Linear(3), Linear(2))}
AGAIN: dict[str, Any] = {"extras": ("again",)}
STALE: dict[str, Any] = {"program": (STEP, STEP), "extras": ("cleared", "second")}
ABOVE: dict[str, Any] = {"mask": UPPER}
NESTED: dict[str, Any] = {"layers": (Sequential((Linear(2),)), Linear(2))}
NESTED["mask"] = ("0.0.weight", "0.0.bias")
NORM: dict[str, Any] = {"layers": (Linear(2), BatchNorm1d()), "mask": UPPER, "in_eval": True}

SHOWN_BY: Mapping[str, dict[str, Any]] = {
    "AveragesOverPasses": {"program": (Step(micro_batches=2),)},
    "ClampsFromThirdStep": {"program": (STEP, STEP, STEP)},
    "ClearsFirstGroup": {"program": (STEP, STEP), "groups": 2},
    "ClearsTrainableOnly": {"program": (STEP, Freeze(LOWER, "left"), STEP), "mask": ()},
    "ClearsWhatRequiredGradAtFirst": {"program": (STEP, Thaw(UPPER), STEP, STEP), "mask": UPPER},
    "ClosureWithoutGrad": {"program": (Step(closure=True),)},
    "CoolsMomentum": {"program": MIDWAY, "mask": ()},
    "CountsBatchesInNested": {
        **NORM,
        "layers": (Linear(2), Sequential((BatchNorm1d(),))),
        "mask": ("1.0.weight", "1.0.bias"),
    },
    "CountsWhatIsFrozen": {"program": MIDWAY, "mask": ()},
    "DecaysSecondGroup": {**ABOVE, "groups": 2},
    "DependsOnAddress": AGAIN,
    "DetachesFrozen": ABOVE,
    "DrawsForFrozen": AGAIN,
    "DrawsForWhatItKnows": {**AGAIN, "program": MIDWAY, "mask": ()},
    "EnablesWhatItKnows": {"program": MIDWAY, "mask": ()},
    "ForgetsWhenAdding": THAWED,
    "FreezesAtFirstOnly": {"program": MIDWAY, "mask": ()},
    "FreezesTopLevelOnly": NESTED,
    "IgnoresClosure": {"program": (Step(closure=True),)},
    "InitialGroupsOnly": THAWED,
    "KeepsGraphAlive": {"mask": (*LOWER, *UPPER)},
    "KeepsRolling": {"program": MIDWAY, "mask": ()},
    "LeaksGradMode": {"program": (STEP, STEP, STEP)},
    "ListsOfMomentum": THAWED,
    "LoadingThaws": {"program": (STEP, SaveLoad(), STEP)},
    "LoadsInOrder": {"program": (STEP, SaveLoad(), STEP)},
    "LoadsStateOfEach": {"program": (STEP, SaveLoad(), STEP)},
    "MovesAtRefreezing": {"program": (STEP, DROP, STEP, DROP), "mask": ()},
    "MovesFirstTwo": {"mask": (*LOWER, *UPPER)},
    "MovesFromThirdStep": {"program": (STEP, STEP, FREEZE, STEP), "mask": ()},
    "MovesWhenTheRateChanges": {"program": (STEP, SetLr(), STEP)},
    "NeverForgivesNone": THAWED,
    "PullsToSlowWeights": {"program": (*MIDWAY, STEP), "mask": ()},
    "RateByPositionInBFloat16": {"dtype": "bfloat16"},
    "ReturnsNothing": {"program": (Step(closure=True),)},
    "RollsOn": {"program": MIDWAY, "mask": ()},
    "RollsOnInBFloat16": {"program": MIDWAY, "mask": (), "dtype": "bfloat16"},
    "RollsOnInSecondGroup": {"program": (STEP, Freeze(UPPER), STEP), "mask": (), "groups": 2},
    "SavesWhatTrains": {"program": (STEP, FREEZE, SaveLoad(), Thaw(LOWER), STEP), "mask": ()},
    "ScalesAddedGroup": THAWED,
    "ScalesGradientThroughNorms": {**ABOVE, "layers": (Linear(2), LayerNorm())},
    "SecondClosureWithoutGrad": {"program": (Step(closure=True),) * 2},
    "SecondOptimizerSteps": STALE,
    "SeedsFromTheSystem": AGAIN,
    "StateByPosition": UNLIKE,
    "StateByRank": UNLIKE,
    "StateInConstructorOnly": THAWED,
    "StateInSecondGroup": {**ABOVE, "groups": 2},
    "SubsetThatAddsStale": STALE,
    "SubsetThatClamps": STALE,
    "SubsetThatClears": STALE,
    "SwapsFrozenInEval": {"program": (Eval(), STEP)},
    "ThawsBetweenPasses": {"program": (Step(micro_batches=2),)},
    "ThawsWeightsOnly": THAWED,
    "TrainsFrozenBatchNorm": NORM,
    "TrainsWhatRequiredGradAtFirst": THAWED,
    "TurnsGradOn": {"program": (BackwardUnderNoGrad(), STEP)},
    "ZeroGradAllocates": {"program": (Step(set_to_none=False),)},
    "no-grad-backward-raises-DecaysEverything": {"mask": (*LOWER, *UPPER)},
}
"""Name of a bug, behind its invariant where it has two -> how its case differs from others."""


class Combination(NamedTuple):
    """A planted bug in an optimizer that is built and stepped as a protocol wants."""

    bug: Planted
    protocol: type[Optimizer]

    @property
    def id(self) -> str:
        return f"{self.bug.invariant}-{self.bug.name}-{self.protocol.__name__}"

    @property
    def subject(self) -> Subject:
        """The protocol's subject with the broken optimizer, or with a correct one."""
        found = probed(self.protocol.__name__)
        optimizer = self.bug.optimizer or Sound
        if self.protocol is Wrapping:
            return replace(found, base=optimizer)
        both = getattr(crossed, crossed.named(self.protocol, optimizer))
        modes = found.modes or has_modes(both)
        return replace(
            found, target=f"{both.__module__}:{both.__name__}", factory=both, modes=modes
        )

    def script(self) -> str | None:
        """The script of the case that shows the bug; None where the trial does not show it."""
        subject, identity = self.subject, self.bug.invariant
        with fenced("cpu"):
            verification = Verification(subject, "cpu", approaches=self.bug.approaches, strict=True)
            others = [each for each in verification.tallies if each != identity]
            verification.find_violations(fitted(shown_by(self.bug), subject), muted=others)
            shown = verification.tallies[identity].shown
            return script(shown, subject, self.bug.approaches) if shown is not None else None


@cache
def probed(name: str) -> Subject:
    """The subject of the protocol with this name, as the probe finds it."""
    protocol = next(each for each in PROTOCOLS if each.__name__ == name)
    with fenced("cpu"):
        found = probe(subjects(protocol)[0], "cpu")
    return replace(found, space=(), patience=PROTOCOLS[protocol].get("patience", 1))


def shown_by(bug: Planted) -> Case:
    """A case that shows the bug: usually two layers, the lower one frozen, and one step."""
    own = SHOWN_BY.get(f"{bug.invariant}-{bug.name}", SHOWN_BY.get(bug.name, {}))
    layers: tuple[AnyLayer, ...] = own.get("layers", (Linear(2), Linear(2)))
    architecture = Architecture(Input((2,)), layers)
    names = [parameter.name for parameter in architecture.parameters]
    known = _arguments(bug.optimizer or Sound)
    options = {name: value for name, value in OPTIONS.items() if name in known}
    return Case(
        architecture,
        own.get("mask", LOWER),
        split_into_groups(names, [(*options.items(),)] * own.get("groups", 1), interleaved=False),
        own.get("program", (STEP,)),
        own.get("dtype", "float32"),
        batch=2,
        frozen_in_eval=own.get("in_eval", False),
        extras=own.get("extras", ()),
    )


def _arguments(optimizer: type[Optimizer]) -> set[str]:
    parameters = inspect.signature(optimizer).parameters
    taken = {"options"} & {*parameters}
    return {*parameters, *(("lr", "momentum", "weight_decay") if taken else ())}


def fitted(case: Case, subject: Subject) -> Case:
    """The case as the subject can run it: with its dtype and groups, and steps enough to move."""
    dtype = case.dtype if case.dtype in subject.dtypes else subject.dtypes[0]
    # With the usual rate, what a bug does rounds away in bfloat16.
    rate = {"lr": 1.0} if dtype == "bfloat16" else {}
    options = {**dict(case.groups[0].options), **rate}
    given = tuple(pair for pair in options.items() if pair[0] not in subject.arguments)
    names = [name for group in case.groups for name in group.parameters]
    program: list[AnyEvent] = []
    for event in case.program:
        times = 2 * subject.patience - 1 if isinstance(event, Step) else 1
        program += [adapt_event(event, subject, case.architecture)] * times
    return case.replaced(
        groups=split_into_groups(
            names, [given] * (len(case.groups) if subject.groups else 1), False
        ),
        program=tuple(program),
        dtype=dtype,
    )


class Meaningless(NamedTuple):
    """Combinations in which the bug cannot show, and why."""

    reason: str
    protocols: tuple[type[Optimizer], ...]
    bugs: tuple[str, ...]


REBUILT = (Fused, Wrapping, OwnGroups, TwoLists)
CLOSURES = (Sam, ClosureRequired)

MEANINGLESS = (
    Meaningless(
        "the invariant is judged of autograd alone, without an optimizer",
        tuple(PROTOCOLS),
        tuple(
            f"{bug.invariant}-{bug.name}" for bug in PLANTED if BY_ID[bug.invariant].autograd_only
        ),
    ),
    Meaningless(
        "the optimizer is built anew for each mask: it adds no group, and loses its state",
        REBUILT,
        (
            *("CoolsMomentum", "CountsWhatIsFrozen", "DrawsForWhatItKnows", "ForgetsWhenAdding"),
            *("InitialGroupsOnly", "ScalesAddedGroup", "StateByPosition"),
            *("StateInConstructorOnly", "ThawsWeightsOnly"),
        ),
    ),
    Meaningless("it never steps without a closure", CLOSURES, ("SkipsWithoutEveryGradient",)),
    Meaningless(
        "a parameter that does not move is reported only of steps without a closure",
        CLOSURES,
        ("NeverForgivesNone", "TrainsWhatRequiredGradAtFirst"),
    ),
    Meaningless(
        "in bfloat16 an update may round away, so that nothing is reported that does not move",
        (OneDtype,),
        (
            *("NeverForgivesNone", "TrainsWhatRequiredGradAtFirst"),
            *("SkipsWithoutEveryGradient", "StopsUnderDecayAndMomentum"),
        ),
    ),
    Meaningless(
        "in bfloat16 the bug may do no more than rounding does",
        (OneDtype,),
        ("DependsOnAddress", "SeedsFromTheSystem"),
    ),
    Meaningless(
        "a step has more than one backward pass, whose gradients nobody can add up",
        (Sam,),
        ("SubsetThatClamps", "SubsetThatClears"),
    ),
    Meaningless(
        "the gradients differ, which another invariant reports, before any weight has moved",
        (WarmsUp,),
        ("SubsetThatAddsStale",),
    ),
    Meaningless("the bug's modes are not called", (Moded, Wrapping), ("SwapsFrozenInEval",)),
    Meaningless(
        "the bug takes no momentum",
        (NeedsMomentum,),
        ("AveragesOverPasses", "StateInConstructorOnly"),
    ),
    Meaningless("nobody can ask it for zeros", (ClearsItsWay,), ("ZeroGradAllocates",)),
    Meaningless(
        "it takes one parameter group",
        (Fused,),
        ("ClearsFirstGroup", "DecaysSecondGroup", "RollsOnInSecondGroup", "StateInSecondGroup"),
    ),
    Meaningless(
        "its step() does nothing, and is what the bug breaks, or what is looked at",
        (Fused,),
        (
            *("ClosureWithoutGrad", "DrawsForFrozen", "IgnoresClosure", "LeaksGradMode"),
            *("ListsOfMomentum", "MovesFirstTwo", "ReturnsNothing", "SecondClosureWithoutGrad"),
            *("SkipsWithoutEveryGradient", "StateByRank", "StopsAtFirstNone"),
        ),
    ),
    Meaningless(
        "it has one backward pass for each step, and no gradient can be dropped before the step",
        (Fused,),
        ("AveragesOverPasses", "MovesAtRefreezing", "ThawsBetweenPasses"),
    ),
    Meaningless(
        "it keeps its states in the order of the backward pass: the bug shows with nothing frozen",
        (Fused,),
        ("LoadsInOrder",),
    ),
    Meaningless(
        "it steps in a backward pass, and there is none with everything frozen",
        (Fused,),
        ("no-grad-backward-raises-DecaysEverything",),
    ),
    Meaningless(
        "it leaves no gradient, so that nobody can tell which parameters had one",
        (Fused,),
        (
            *("AllocatesGradient", "ClearsTrainableOnly", "ClearsWhatRequiredGradAtFirst"),
            *("DetachesFrozen", "FreezesAtFirstOnly", "no-grad-allocated-FreezesTopLevelOnly"),
            *("FreezesWeightsOnly", "KeepsRolling", "MovesFromThirdStep", "NeverForgivesNone"),
            *("PullsToSlowWeights", "RollsOn", "RollsOnInBFloat16"),
            *("ScalesGradientThroughNorms", "no-grad-allocated-SetsModuleAttribute"),
            *("StopsUnderDecayAndMomentum", "SubsetThatClamps", "SubsetThatClears"),
            "TrainsWhatRequiredGradAtFirst",
        ),
    ),
)


def excluded(combination: Combination) -> list[str]:
    """Why the combination has no meaning; nothing where it has."""
    names = {combination.bug.name, f"{combination.bug.invariant}-{combination.bug.name}"}
    return [
        each.reason
        for each in MEANINGLESS
        if combination.protocol in each.protocols and names & {*each.bugs}
    ]


EVERY = tuple(Combination(bug, protocol) for bug in PLANTED for protocol in PROTOCOLS)
COMBINATIONS = tuple(each for each in EVERY if not excluded(each))


def covering(each: int) -> tuple[Combination, ...]:
    """A selection that has every bug under `each` protocols, which are others from bug to bug."""
    found: list[Combination] = []
    for number, bug in enumerate(PLANTED):
        own = [combination for combination in COMBINATIONS if combination.bug is bug]
        stride = max(len(own) // each, 1)
        found += [own[(number + i * stride) % len(own)] for i in range(min(each, len(own)))]
    return tuple(found)
