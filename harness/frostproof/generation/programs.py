"""Programs to draw: a menu of events, and how numbers become a program.

The menu goes from simple to complex, like those of networks. Which parameters an event names
depends on the mask at that point, so that freezing and thawing always find some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import msgspec

from frostproof.generation import masks
from frostproof.spec.architecture import Architecture
from frostproof.spec.program import (
    AddFrozen,
    AnyEvent,
    BackwardUnderNoGrad,
    Clip,
    Eval,
    Freeze,
    LoadWeights,
    Program,
    SaveLoad,
    Schedule,
    Scheduler,
    SetLr,
    Step,
    Thaw,
    Train,
    ZeroGrad,
    frozen_at_events,
)
from frostproof.spec.subject import Subject
from frostproof.spec.user_model import UserModel

DRAWN_MAX_EVENTS = 6
"""The largest number of drawn events, where a run of equal steps counts as one."""
RUN_LENGTHS = (1, 4, 6, 8, 10, *[12] * 6)
"""The numbers of steps in a run. Some optimizers do something at every fifth or tenth step only.

With one step, a run shrinks to what could have been drawn without it."""
EVENT_GENES = 114
"""Numbers below it choose an event, and its details.

With EVENT_END they are 128. Hypothesis prefers small numbers in larger ranges."""
EVENT_END = 14
"""As many numbers end the program."""

CLIPS = tuple(Clip(by, over) for over in ("owned", "all") for by in ("norm", "value"))
STEPS: tuple[Step, ...] = (
    *[Step(set_to_none=False)] * 2,
    *[Step(closure=True)] * 9,
    *[Step(drop=drop) for drop in ("first", "last", "all")] * 2,
    *(Step(micro_batches=count) for count in (2, 3, 4)),
    *(Step(zeroed_by="model", set_to_none=to_none) for to_none in (True, False)),
    *(Step(after_backward=(clip,)) for clip in CLIPS),
    *[Step(amp="autocast")] * 2,
    *[Step(amp="scaler")] * 2,
    *[Step(amp="overflow")] * 3,
    *(Step(drop=drop, set_to_none=False) for drop in ("first", "all")),
    *(
        Step(closure=True, **each)
        for each in (
            {"micro_batches": 2},
            {"set_to_none": False},
            {"drop": "first"},
            {"drop": "all"},
        )
    ),
    *(Step(closure=True, after_backward=(clip,)) for clip in CLIPS[:3]),
    *(Step(micro_batches=2, drop=drop) for drop in ("first", "last")),
    Step(amp="autocast", micro_batches=2),
    Step(amp="scaler", micro_batches=2),
    *(Step(amp="scaler", drop=drop) for drop in ("first", "all")),
    *(Step(amp="scaler", after_backward=(clip,)) for clip in CLIPS[:3]),
    Step(amp="overflow", after_backward=(CLIPS[2],)),
)
"""Steps with something special."""

WHICH = ("last", "first", "all", "alternating", "random", "random")
"""Which units an event freezes or thaws: kinds of masks over those that it may choose."""

Within = Literal["", "forward", "backward"]
"""When to freeze or thaw: between steps, or inside one, after its forward or backward pass."""

Draft = Callable[[int, "Drafting"], Program]


class Drafting:
    """The trainable and the frozen parameters when the next event is drawn."""

    def __init__(self, fit: Sequence[str], frozen: Iterable[str]) -> None:
        self.fit, self.frozen = fit, frozenset(frozen)

    def names(self, frozen: bool, gene: int) -> tuple[str, ...]:
        """Some of the frozen, or some of the trainable parameters; empty if there are none."""
        names = [name for name in self.fit if (name in self.frozen) == frozen]
        gene, by_parameter = divmod(gene, 2)
        gene, which = divmod(gene, len(WHICH))
        units = [[name] for name in names] if by_parameter else group_by_layer(names)
        chosen = masks.KINDS[WHICH[which]](len(units), gene)
        return tuple(
            name for unit, taken in zip(units, chosen, strict=True) if taken for name in unit
        )


def group_by_layer(names: Iterable[str]) -> list[list[str]]:
    """The names of parameters in lists, one for each module."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return list(layers.values())


def _freezing(gradient: Literal["none", "left", "zeros"] = "none", within: Within = "") -> Draft:
    def draft(gene: int, now: Drafting) -> Program:
        names = now.names(False, gene)
        return (_place_in_step(Freeze(names, gradient), within) if names else Step(),)

    return draft


def _thawing(within: Within = "") -> Draft:
    def draft(gene: int, now: Drafting) -> Program:
        names = now.names(True, gene)
        return (_place_in_step(Thaw(names), within) if names else Step(),)

    return draft


def _adding(gene: int, now: Drafting) -> Program:
    names = now.names(True, gene)
    return (AddFrozen(names) if names else Step(),)


def _place_in_step(event: Freeze | Thaw, within: Within) -> AnyEvent:
    """The event alone, or inside a step, after its forward or backward pass."""
    if within == "forward":
        return Step(after_forward=(event,))
    return Step(after_backward=(event,)) if within == "backward" else event


def _among(events: Sequence[AnyEvent]) -> Draft:
    return lambda gene, now: (events[gene * len(events) // EVENT_GENES],)


def _run(gene: int) -> Program:
    return (Step(),) * RUN_LENGTHS[gene * len(RUN_LENGTHS) // EVENT_GENES]


def _freezing_before_run(gene: int, now: Drafting) -> Program:
    return (*_freezing()(gene, now), *_run(gene))


def _freezing_before_saving(gene: int, now: Drafting) -> Program:
    return (Step(), *_freezing()(gene, now), Step(), SaveLoad(), Step())


def _freezing_before_saving_and_run(gene: int, now: Drafting) -> Program:
    return (*_freezing_before_saving(gene, now), *_run(gene)[1:])


MENU: tuple[Draft, ...] = (
    *[_among((Step(),))] * 6,
    *[_freezing()] * 13,
    *[_thawing()] * 13,
    *[_among(STEPS)] * 38,
    *[_freezing("left")] * 2,
    *[_freezing("zeros", "backward")] * 2,
    *[_freezing("none", "backward")] * 2,
    *[_freezing("left", "backward")] * 2,
    _freezing("none", "forward"),
    *[_thawing("backward")] * 2,
    _thawing("forward"),
    *[_among((ZeroGrad(), ZeroGrad(set_to_none=False)))] * 2,
    *[_among((BackwardUnderNoGrad(),))] * 3,
    *[_among((SaveLoad(),))] * 5,
    *[_among((SetLr(), SetLr(2.0), *(Schedule(name) for name in get_args(Scheduler))))] * 4,
    *[_among((Eval(), Eval(only_frozen=True), Eval(), Train()))] * 4,
    *[_among((LoadWeights(),))] * 3,
    *[_adding] * 3,
    *[_freezing_before_run] * 2,
    *[_freezing_before_saving] * 2,
    *[_freezing_before_saving_and_run] * 2,
)
"""The events, weighted by repetition. Of more than EVENT_GENES, some would never be drawn."""


def program_from(
    genes: Iterable[Sequence[int]],
    architecture: Architecture | UserModel,
    fit: Sequence[str],
    mask: Iterable[str],
    subject: Subject,
    run: int = 0,
) -> Program:
    """The program that `genes` encode, in a pair for each event: which one, and its details.

    `fit` has the names of the parameters that the subject can train, and `mask` of those that are
    frozen at first. A program ends with a step, which shows the effect of the last event. If
    an optimizer has other weights for evaluation, they are looked at after that. `run`: how many
    more steps there are, all alike.
    """
    events: list[AnyEvent] = []
    frozen = frozenset(mask)
    for which, detail in genes:
        draft = MENU[which * len(MENU) // EVENT_GENES](detail, Drafting(fit, frozen))
        drafted = tuple(adapt_event(event, subject, architecture) for event in draft)
        frozen = frozen_at_events(drafted, frozen)[-1].step
        events += drafted
    if not isinstance(events[-1], Step):
        events.append(adapt_event(Step(), subject, architecture))
    events += [adapt_event(Step(), subject, architecture)] * run
    if subject.modes:
        events.append(Eval())
    return tuple(events)


def adapt_event(
    event: AnyEvent, subject: Subject, architecture: Architecture | UserModel
) -> AnyEvent:
    """The event, or the nearest to it that the subject and the network can do."""
    if not isinstance(event, Step):
        return (
            adapt_event(Step(), subject, architecture)
            if type(event).__name__ in subject.unable
            else event
        )
    if subject.runs_backward:
        closure = subject.needs_closure
        return Step(set_to_none=event.set_to_none, zeroed_by=event.zeroed_by, closure=closure)
    if subject.needs_closure:
        event = msgspec.structs.replace(
            event,
            closure=True,
            amp="autocast" if event.amp == "autocast" else "none",
            after_forward=(),
            after_backward=event.clips,
        )
    elif event.closure and subject.closure == "never":
        event = msgspec.structs.replace(event, closure=False)
    if event.clips and (subject.parameters == "sparse" or "Clip" in subject.unable):
        event = msgspec.structs.replace(
            event, after_backward=tuple(e for e in event.after_backward if not isinstance(e, Clip))
        )
    if event.micro_batches > 1 and "micro-batches" in subject.unable:
        event = msgspec.structs.replace(event, micro_batches=1)
    if event.drop != "none" and "drop" in subject.unable:
        event = msgspec.structs.replace(event, drop="none")
    if event.after_forward and architecture.recomputes:
        event = msgspec.structs.replace(event, after_forward=())
    if event.mask_changes and (subject.backward == "create-graph" or subject.hooks):
        # The optimizer differentiates the graph of all gradients, and that of leftover ones is
        # gone. Or it has stepped when backward is over, so that there is no time before its step.
        event = msgspec.structs.replace(event, after_forward=(), after_backward=event.clips)
    if ("scaler" if event.scaled else event.amp) in subject.unable or not architecture.autocasts:
        event = msgspec.structs.replace(event, amp="none")
    return event
