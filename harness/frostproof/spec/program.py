"""Training events: every copy of the network goes through them in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

Names = tuple[str, ...]
Scheduler = Literal["StepLR", "LambdaLR", "OneCycleLR", "ReduceLROnPlateau", "SequentialLR"]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class Event(
    msgspec.Struct,
    frozen=True,
    repr_omit_defaults=True,
    tag_field="kind",
    tag=True,
    forbid_unknown_fields=True,
):
    """One thing that happens in training."""


class Freeze(Event, frozen=True):
    """The named parameters stop training."""

    names: Names

    gradient: Literal["none", "left", "zeros"] = "none"
    """Whether their gradients are set to None, left as they are, or filled with zeros."""


class Thaw(Event, frozen=True):
    """The named parameters train, perhaps again."""

    names: Names


class AddFrozen(Event, frozen=True):
    """An optimizer without the named parameters, which are frozen, gets them in a new group.

    Approaches do this that thaw parameters in the optimizer; for the others nothing happens.
    """

    names: Names


class Clip(Event, frozen=True):
    """Gradients are clipped."""

    by: Literal["norm", "value"] = "norm"

    over: Literal["owned", "all"] = "owned"
    """Whose gradients: the parameters in the optimizer, or all parameters of the model."""

    limit: Positive = 0.1
    """The largest norm, or the largest absolute value."""


class Step(Event, frozen=True):
    """zero_grad, forward, backward and step, on a new batch."""

    closure: bool = False
    """Whether the optimizer runs forward and backward itself, through `step(closure)`."""

    set_to_none: bool = True
    """The argument of zero_grad: gradients become None, or else zeros."""

    drop: Literal["none", "first", "last", "all"] = "none"
    """Which trainable parameters get a gradient of None before the step, as unused branches do."""

    micro_batches: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    """The number of forward and backward passes, whose gradients add up."""

    zeroed_by: Literal["optimizer", "model"] = "optimizer"
    """Whose zero_grad is called."""

    amp: Literal["none", "autocast", "scaler", "overflow"] = "none"
    """Mixed precision: the forward pass under autocast to bfloat16, with a GradScaler, or with
    a GradScaler whose scale overflows."""

    after_forward: tuple[Freeze | Thaw, ...] = ()
    """What happens after the last forward pass."""

    after_backward: tuple[Freeze | Thaw | Clip, ...] = ()
    """What happens after the last backward pass."""

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The clipping inside this step."""
        return tuple(each for each in self.after_backward if isinstance(each, Clip))

    @property
    def mask_changes(self) -> tuple[Freeze | Thaw, ...]:
        """The freezing and thawing inside this step."""
        return tuple(
            each
            for each in (*self.after_forward, *self.after_backward)
            if not isinstance(each, Clip)
        )

    @property
    def scaled(self) -> bool:
        """Whether a GradScaler scales the loss, and with it the gradients."""
        return self.amp in ("scaler", "overflow")


class ZeroGrad(Event, frozen=True):
    """zero_grad, when every owned parameter has a gradient of an earlier training."""

    set_to_none: bool = True


class BackwardUnderNoGrad(Event, frozen=True):
    """A forward pass under `torch.no_grad()`, then backward on its loss, then a step."""


class SaveLoad(Event, frozen=True):
    """A checkpoint: copies that resume load it into a new model and optimizer; others go on."""


class LoadWeights(Event, frozen=True):
    """Other weights are loaded into the model, as a pretrained checkpoint is."""


class SetLr(Event, frozen=True):
    """The learning rate of every group is multiplied by `factor`."""

    factor: Positive = 0.5


class Schedule(Event, frozen=True):
    """A step of a learning rate scheduler, which is built when the program first names it."""

    scheduler: Scheduler = "StepLR"


class Train(Event, frozen=True):
    """`model.train()`, also for frozen modules; an optimizer with modes follows."""


class Eval(Event, frozen=True):
    """`model.eval()`; an optimizer with modes follows the model."""

    only_frozen: bool = False
    """Whether only modules whose parameters are all frozen go into eval mode."""


AnyEvent = (
    Step
    | Freeze
    | Thaw
    | AddFrozen
    | ZeroGrad
    | BackwardUnderNoGrad
    | SaveLoad
    | LoadWeights
    | SetLr
    | Schedule
    | Train
    | Eval
)
Program = tuple[AnyEvent, ...]


class FrozenNames(NamedTuple):
    """The names of the frozen parameters during one event."""

    forward: frozenset[str]
    """Frozen in the forward pass."""

    backward: frozenset[str]
    """Frozen in the backward pass."""

    step: frozenset[str]
    """Frozen when the optimizer steps, and after the event."""


def frozen_at_events(program: Program, mask: Iterable[str]) -> tuple[FrozenNames, ...]:
    """The frozen parameters during each event of `program`, which begins with `mask`.

    >>> during = frozen_at_events((Step(), Freeze(("0.weight",)), Step()), ())
    >>> [sorted(each.step) for each in during]
    [[], ['0.weight'], ['0.weight']]
    """
    found, frozen = [], frozenset(mask)
    for event in program:
        forward = backward = frozen = _apply((event,), frozen)
        if isinstance(event, Step):
            backward = _apply(event.after_forward, forward)
            frozen = _apply(event.after_backward, backward)
        found.append(FrozenNames(forward, backward, frozen))
    return tuple(found)


def mask_changes(event: AnyEvent) -> tuple[Freeze | Thaw, ...]:
    """The freezing and thawing in an event, inside a step too."""
    if isinstance(event, Freeze | Thaw):
        return (event,)
    return event.mask_changes if isinstance(event, Step) else ()


def renamed(event: AnyEvent | Clip, names: Callable[[Freeze | Thaw | AddFrozen], Names]) -> Any:
    """The event with other names of parameters, inside a step too."""
    if isinstance(event, Freeze | Thaw | AddFrozen):
        return msgspec.structs.replace(event, names=names(event))
    if not isinstance(event, Step):
        return event
    forward = tuple(renamed(each, names) for each in event.after_forward)
    backward = tuple(renamed(each, names) for each in event.after_backward)
    return msgspec.structs.replace(event, after_forward=forward, after_backward=backward)


def _apply(events: Iterable[Event], frozen: frozenset[str]) -> frozenset[str]:
    for event in events:
        if isinstance(event, Freeze):
            frozen |= frozenset(event.names)
        elif isinstance(event, Thaw):
            frozen -= frozenset(event.names)
    return frozen
