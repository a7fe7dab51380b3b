"""Training events: what happens to every twin, in order."""

from __future__ import annotations

from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="kind", tag=True, forbid_unknown_fields=True):
    """Something that happens in training. All approaches go through it in lockstep."""


class Step(Event, frozen=True):
    """zero_grad, forward, backward, step, on a fresh batch.

    `closure`: through `step(closure)`. `set_to_none`: as given to zero_grad. `drop`: the trainable parameters whose
    gradient is set to None before the step, as when a branch takes no part in the loss.
    """

    closure: bool = False
    set_to_none: bool = True
    drop: Literal["none", "first", "last", "all"] = "none"


class ZeroGrad(Event, frozen=True):
    """zero_grad while every owned parameter, frozen ones too, still has the gradient of an earlier training."""

    set_to_none: bool = True


class BackwardUnderNoGrad(Event, frozen=True):
    """A forward pass under `torch.no_grad()` whose loss is asked for a backward pass, then a step."""


AnyEvent = Step | ZeroGrad | BackwardUnderNoGrad
Program = tuple[AnyEvent, ...]
