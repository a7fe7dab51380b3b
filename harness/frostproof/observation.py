"""What a trial leaves behind: plain values, no live tensors, for the invariants to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from frostproof.case import Case
from frostproof.program import AnyEvent

Bits = bytes
"""The values of a tensor, as `frostproof.bits` reads them."""

Grads = tuple[Bits | None, ...]
Phase = Literal["build", "zero_grad", "forward", "backward", "step"]


class Activation(NamedTuple):
    """The output of one layer during the forward pass. `saved`: how many tensors its operations kept for backward."""

    path: str
    requires_grad: bool
    is_leaf: bool
    has_grad_fn: bool
    saved: int


@dataclass(slots=True)
class ClosureUse:
    """How an optimizer used the closure that it was given. Losses as bits."""

    calls: int = 0
    grad_enabled: bool = True
    losses: list[Bits] = field(default_factory=list)
    returned: Any = None


@dataclass(slots=True)
class Observation:
    """One twin during one event. Tuples run over all parameters, in the order of the model.

    `cleared`: gradients right after zero_grad; `gradients`: after the backward pass; `had_gradient`: at the call of
    step(); `has_gradient`: after it. `weights`, `buffers`, `requires_grad`, `grad_enabled`, `groups_kept`, `stateful`
    (parameters with non-empty optimizer state) and `generators` are read after the event.
    """

    cleared: Grads | None = None
    losses: list[Bits] = field(default_factory=list)
    gradients: Grads | None = None
    backward_error: str | None = None
    had_gradient: tuple[bool, ...] | None = None
    has_gradient: tuple[bool, ...] = ()
    weights: tuple[Bits, ...] = ()
    buffers: tuple[Bits, ...] = ()
    requires_grad: tuple[bool, ...] = ()
    grad_enabled: bool = True
    groups_kept: bool = True
    stateful: tuple[int, ...] = ()
    generators: Bits = b""
    closure: ClosureUse | None = None
    activations: list[Activation] | None = None


@dataclass(slots=True)
class Crash:
    """An exception that came out of the optimizer, or out of the model after the optimizer touched it."""

    role: str
    index: int
    phase: Phase
    error: Exception

    def __str__(self) -> str:
        text = " ".join(str(self.error).split())
        return f"{type(self.error).__name__}: {text[:300]}" if text else type(self.error).__name__


@dataclass(slots=True)
class Start:
    """One twin before the first event."""

    weights: tuple[Bits, ...]
    buffers: tuple[Bits, ...]
    requires_grad: tuple[bool, ...]
    owned: tuple[int, ...]
    held_buffers: tuple[int, ...]  # of frozen modules in eval mode
    has_optimizer: bool


class Moment(NamedTuple):
    """One event: its position in the program, whether it is the last, and each role's observation.

    The roles `a` and `b` are always there; `cleared`, `second` and `again` where the case draws them. `before` holds
    the observations of the moment before.
    """

    number: int
    event: AnyEvent
    last: bool
    seen: dict[str, Observation]
    before: dict[str, Observation] | None


class Trial:
    """One run of a case under the approaches, in lockstep, as far as it went without a violation."""

    def __init__(self, case: Case, names: dict[str, str], allows_rounding: bool) -> None:
        self.case = case
        self.allows_rounding = allows_rounding
        self.rounding = 0.0  # the largest difference that passed as rounding, in units in the last place
        self.names = names
        self.starts: dict[str, Start] = {}
        self.moments: list[Moment] = []
        self.crash: Crash | None = None
        self.take_frozen = picker(case.frozen)
        self.take_trainable = picker(case.trainable)

    def weights_before(self, moment: Moment, role: str) -> tuple[Bits, ...]:
        """A twin's weights before `moment`."""
        return moment.before[role].weights if moment.before else self.starts[role].weights


def picker(positions: tuple[int, ...]) -> Callable[[Sequence[Any]], Any]:
    """A function that takes the items at `positions`, as something comparable."""
    return itemgetter(*positions) if positions else lambda items: ()
