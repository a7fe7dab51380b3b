"""What a trial leaves behind: plain values, no live tensors, for the invariants to judge."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from frostproof.spec.case import Case, MaskState, Positions
from frostproof.spec.program import AnyEvent
from frostproof.training.marks import Phase

if TYPE_CHECKING:
    from frostproof.spec.subject import Subject

Bits = bytes
"""The values of a tensor, as `frostproof.training.bits` reads them."""

Grads = tuple[Bits | None, ...]


class Activation(NamedTuple):
    """The output of one layer during the forward pass. `saved`: how many tensors its operations kept for backward."""

    path: str
    requires_grad: bool
    is_leaf: bool
    has_grad_fn: bool
    saved: int


class Cost(NamedTuple):
    """What autograd spent on one forward and backward pass: bytes saved for backward, and FLOPs of backward."""

    saved_bytes: int
    backward_flops: int


@dataclass(slots=True)
class ClosureUse:
    """How an optimizer used the closure that it was given. Losses as bits."""

    calls: int = 0
    grad_enabled: bool = True
    losses: list[Bits] = field(default_factory=list)
    returned: Any = None


class Clipped(NamedTuple):
    """Clipping by norm over the whole model: the norm that torch found, and that of the trainable gradients alone, as bits."""

    norm: Bits
    trainable: Bits


@dataclass(slots=True)
class Observation:
    """One twin during one event. Tuples run over all parameters, in the order of the model.

    `evaluations`: how often gradients were cleared and computed. `zeroed`: what the optimizer owned at zero_grad, and
    `cleared`: gradients right after it. `gradients`: after the backward passes; `passes`: after each of them, where
    there are several. `handed`: at the call of step(); `stepped`: whether there was an optimizer to call; `clipped`:
    each clipping over the whole model; `scaler_error`: what GradScaler raised for want of a gradient;
    `draws`: whether random numbers were drawn from there on, by the optimizer or its closure;
    `weights_at_step`: where the forward pass, or a change to train mode, rewrites some. `has_gradient`: after it.
    `added`: members of groups that were added to the optimizer; `built`: whether the first one was built; `forgot`:
    whether one was built anew without what the old one knew; `cast`: whether loading a checkpoint changed the dtype of
    its state. `held`: buffers of frozen modules in eval mode. The rest is read after the event: `owned` by the
    optimizer, `stateful`: parameters with non-empty optimizer state, `states`: that of parameters that the program
    freezes, `rates`: learning rates, where the program changes them, `counts`: the numbers of its group, where the
    program freezes or thaws, `flags`: each requires_grad, and `flipped`: those that are not as the approach left them,
    `flipped_by_adding`: those that were flipped as their group was added,
    `default_dtype`: torch's, before and after, where the optimizer changed it; `groups_kept`: whether its groups hold what
    they were given, which is `grouping`, in this order, where that is known.
    """

    evaluations: int = 0
    zeroed: Positions = ()
    cleared: Grads | None = None
    losses: list[Bits] = field(default_factory=list)
    gradients: Grads | None = None
    passes: list[Grads] = field(default_factory=list)
    backward_error: str | None = None
    handed: Grads | None = None
    weights_at_step: tuple[Bits, ...] | None = None
    stepped: bool = False
    clipped: list[Clipped] = field(default_factory=list)
    scaler_error: str | None = None
    added: Positions = ()
    built: bool = False
    forgot: bool = False
    cast: bool = False
    held: Positions = ()
    owned: Positions = ()
    has_gradient: tuple[bool, ...] = ()
    weights: tuple[Bits, ...] = ()
    buffers: tuple[Bits, ...] = ()
    flags: tuple[bool, ...] = ()
    flipped: Positions = ()
    flipped_by_adding: Positions = ()
    grad_enabled: bool = True
    default_dtype: tuple[str, str] | None = None
    groups_kept: bool = True
    grouping: Positions | None = None
    stateful: Positions = ()
    states: dict[int, Bits] = field(default_factory=dict)
    rates: tuple[Any, ...] = ()
    counts: tuple[Any, ...] = ()
    generators: Bits = b""
    draws: bool = False
    closure: ClosureUse | None = None
    activations: list[Activation] | None = None
    cost: Cost | None = None


@dataclass(slots=True)
class Crash:
    """An exception that came out of the optimizer, or out of the model after the optimizer touched it."""

    role: str
    index: int
    phase: Phase
    error: BaseException
    handed: Grads | None = None
    """The gradients that the optimizer was handed before it raised; None where it was not called."""
    rates: tuple[Any, ...] = ()
    """The learning rates of the optimizer's groups."""

    def __str__(self) -> str:
        text = " ".join(str(self.error).split())
        return f"{type(self.error).__name__}: {text[:300]}" if text else type(self.error).__name__

    @property
    def caught(self) -> str:
        """The name of a builtin exception that catches it."""
        return next(
            str(each.__name__)
            for each in type(self.error).__mro__
            if getattr(builtins, each.__name__, None) is each
        )


@dataclass(slots=True)
class Start:
    """One twin before the first event."""

    weights: tuple[Bits, ...]
    buffers: tuple[Bits, ...]


class Moment(NamedTuple):
    """One event: its number in the program, what is frozen during it, whether it is the last, and each role's observation.

    The roles `a` and `b` are always there; the others where the case draws them, or where its program has a checkpoint.
    `before` holds the observations of the moment before.
    """

    number: int
    event: AnyEvent
    mask: MaskState
    last: bool
    seen: dict[str, Observation]
    before: dict[str, Observation] | None


class Trial:
    """One run of a case under the approaches, in lockstep, as far as it went without a violation.

    `parted` holds the pairs of roles that train apart for a cause that was seen; `moved_on_zero_grad` what an optimizer did with
    zeros in the place of a missing gradient, where that was seen; `crash` the exception that ended it; `undone` the
    parameters that known breaches had moved, and that were put back at the end of an event, by its number.
    """

    def __init__(self, case: Case, names: dict[str, str], subject: Subject) -> None:
        self.case = case
        self.subject = subject
        self.rounding = (
            0.0  # the largest difference that passed as rounding, in units in the last place
        )
        self.names = names
        self.starts: dict[str, Start] = {}
        self.moments: list[Moment] = []
        self.crash: Crash | None = None
        self.parted: dict[tuple[str, str], str] = {}
        self.undone: dict[int, Positions] = {}
        self.moved_on_zero_grad: bool | None = None

    @property
    def allows_rounding(self) -> bool:
        return self.subject.rounding is not None

    def weights_before(self, moment: Moment, role: str) -> tuple[Bits, ...]:
        """A twin's weights before `moment`; before its step, where the forward pass rewrites weights."""
        at_step = moment.seen[role].weights_at_step
        if at_step is not None:
            return at_step
        return moment.before[role].weights if moment.before else self.starts[role].weights

    def first_added(self, role: str) -> Moment | None:
        """The first moment at which a twin added a group to its optimizer."""
        return next((moment for moment in self.moments if moment.seen[role].added), None)

    def buffers_before(self, moment: Moment, role: str) -> tuple[Bits, ...]:
        return moment.before[role].buffers if moment.before else self.starts[role].buffers


@lru_cache(maxsize=4096)
def picker(positions: Positions) -> Callable[[Sequence[Any]], Any]:
    """A function that takes the items at `positions`, as something comparable."""
    return itemgetter(*positions) if positions else lambda items: ()
