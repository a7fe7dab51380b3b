"""Training events: what happens to every twin, in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

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
    """Something that happens in training. All approaches go through it in lockstep."""


class Freeze(Event, frozen=True):
    """What is named trains no longer. `gradient`: what becomes of the gradient that it has: set to None, left, or zeroed."""

    names: Names
    gradient: Literal["none", "left", "zeros"] = "none"


class Thaw(Event, frozen=True):
    """What is named trains, or trains again."""

    names: Names


class Clip(Event, frozen=True):
    """Clips gradients, of the parameters that the optimizer owns or of all that the model has."""

    by: Literal["norm", "value"] = "norm"
    over: Literal["owned", "all"] = "owned"
    limit: Positive = 0.1


class Step(Event, frozen=True):
    """zero_grad, forward, backward, step, on a fresh batch.

    `closure`: through `step(closure)`. `zeroed_by` and `set_to_none`: whose zero_grad, and how. `drop`: the trainable
    parameters whose gradient is set to None before the step, as when a branch takes no part in the loss.
    `micro_batches`: as many forward and backward passes, whose gradients add up. `amp`: the forward pass in bfloat16 under
    autocast; with a GradScaler too; with one whose scale overflows. `after_forward` and `after_backward` happen inside
    the step, after the last pass.
    """

    closure: bool = False
    set_to_none: bool = True
    drop: Literal["none", "first", "last", "all"] = "none"
    micro_batches: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    zeroed_by: Literal["optimizer", "model"] = "optimizer"
    amp: Literal["none", "autocast", "scaler", "overflow"] = "none"
    after_forward: tuple[Freeze | Thaw, ...] = ()
    after_backward: tuple[Freeze | Thaw | Clip, ...] = ()

    @property
    def clips(self) -> tuple[Clip, ...]:
        """What clips its gradients."""
        return tuple(each for each in self.after_backward if isinstance(each, Clip))

    @property
    def mask_changes(self) -> tuple[Freeze | Thaw, ...]:
        """What it freezes and thaws."""
        return (
            *self.after_forward,
            *(each for each in self.after_backward if not isinstance(each, Clip)),
        )

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled, and the gradients with it."""
        return self.amp in ("scaler", "overflow")


class ZeroGrad(Event, frozen=True):
    """zero_grad while every owned parameter, frozen ones too, still has the gradient of an earlier training."""

    set_to_none: bool = True


class BackwardUnderNoGrad(Event, frozen=True):
    """A forward pass under `torch.no_grad()` whose loss is asked for a backward pass, then a step."""


class SaveLoad(Event, frozen=True):
    """A checkpoint: what was saved is loaded into a new model and optimizer, by the twins that resume; the others go on."""


class SetLr(Event, frozen=True):
    """The learning rate of every group times `factor`."""

    factor: Positive = 0.5


class Schedule(Event, frozen=True):
    """A step of a learning rate scheduler, which is built when the program first names it."""

    scheduler: Scheduler = "StepLR"


class Train(Event, frozen=True):
    """`model.train()`, whatever was frozen; an optimizer that has such a mode follows."""


class Eval(Event, frozen=True):
    """`model.eval()`, or eval mode for the modules that are frozen as a whole; an optimizer that has modes follows the model."""

    only_frozen: bool = False


AnyEvent = (
    Step
    | Freeze
    | Thaw
    | ZeroGrad
    | BackwardUnderNoGrad
    | SaveLoad
    | SetLr
    | Schedule
    | Train
    | Eval
)
Program = tuple[AnyEvent, ...]


class FrozenNames(NamedTuple):
    """Names of what is frozen in the course of one event: in the forward pass, in the backward pass, at the step and after."""

    forward: frozenset[str]
    backward: frozenset[str]
    step: frozenset[str]


def frozen_names(program: Program, mask: Iterable[str]) -> tuple[FrozenNames, ...]:
    """What is frozen during each event of `program`, beginning with `mask`.

    >>> [sorted(each.step) for each in frozen_names((Step(), Freeze(("0.weight",)), Step()), ())]
    [[], ['0.weight'], ['0.weight']]
    """
    found, frozen = [], frozenset(mask)
    for event in program:
        forward = backward = frozen = _changed(frozen, (event,))
        if isinstance(event, Step):
            backward = _changed(forward, event.after_forward)
            frozen = _changed(backward, event.after_backward)
        found.append(FrozenNames(forward, backward, frozen))
    return tuple(found)


def mask_changes(event: AnyEvent) -> tuple[Freeze | Thaw, ...]:
    """The freezing and thawing in an event, inside a step too."""
    if isinstance(event, Freeze | Thaw):
        return (event,)
    return event.mask_changes if isinstance(event, Step) else ()


def _changed(frozen: frozenset[str], events: Iterable[Event]) -> frozenset[str]:
    for event in events:
        if isinstance(event, Freeze):
            frozen |= frozenset(event.names)
        elif isinstance(event, Thaw):
            frozen -= frozenset(event.names)
    return frozen
