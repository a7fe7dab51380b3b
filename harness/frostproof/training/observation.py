"""The observations of a trial: plain values, no live tensors, for the invariants to judge."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from frostproof.spec.case import Case, MaskState, Positions, Role
from frostproof.spec.program import AnyEvent
from frostproof.training.marks import Phase

if TYPE_CHECKING:
    from frostproof.spec.subject import Subject
    from frostproof.training.source_lines import SourceLine

Bits = bytes
"""The values of a tensor, as `frostproof.training.bits` reads them."""

Grads = tuple[Bits | None, ...]
"""The bits of each parameter's `.grad`; None where it is None."""


class Activation(NamedTuple):
    """The output of one layer during the forward pass."""

    path: str
    """The path of the layer in the model, as "1.0"."""
    requires_grad: bool
    is_leaf: bool
    has_grad_fn: bool
    saved: int
    """The number of tensors that the layer's operations saved for backward."""


class Cost(NamedTuple):
    """What autograd spent on one forward and backward pass."""

    saved_bytes: int
    """Bytes of the tensors that were saved for backward."""
    backward_flops: int


@dataclass(slots=True)
class ClosureUse:
    """How an optimizer used the closure that was passed to its step()."""

    calls: int = 0
    grad_enabled: bool = True
    """Whether gradients were enabled in every call."""
    losses: list[Bits] = field(default_factory=list)
    """The loss that each call returned."""
    returned: Any = None
    """What step(closure) returned: the bits of a tensor, or the value itself."""


class ClippedNorms(NamedTuple):
    """Two norms, as clipping by norm over the whole model began."""

    all: Bits
    """The norm of all gradients."""
    frozen: Bits
    """The norm of the gradients of frozen parameters: of leftovers."""


@dataclass(slots=True, eq=False)
class Observation:
    """One training during one event. Tuples run over all parameters, in the order of the model.

    The fields from `owned` on are read after the event. Positions are those of parameters.
    """

    previous: Observation | None
    """The observation of the event before; None in the observation of the new model."""
    evaluations: int = 0
    """How often gradients were cleared and computed."""
    owned_at_zero_grad: Positions = ()
    """The parameters that the optimizer owned at the first zero_grad."""
    grads_after_zero_grad: Grads | None = None
    """Gradients right after the first zero_grad."""
    losses: list[Bits] = field(default_factory=list)
    grads_after_each_pass: list[Grads] = field(default_factory=list)
    """Gradients after each backward pass of the first evaluation."""
    grads_after_backward: Grads | None = None
    """Gradients after the last backward pass of the first evaluation."""
    backward_error: str | None = None
    """The message of the RuntimeError that backward raised, where the loss had no graph."""
    grads_at_step: Grads | None = None
    """Gradients at the call of step(), or where it would have been called."""
    weights_at_step: tuple[Bits, ...] | None = None
    """Weights before step(), where the forward pass, a change to train mode, or loading rewrites
    some."""
    optimizer_called: bool = False
    """Whether there was an optimizer to call."""
    functions_compiled: int = 0
    """How many functions torch.compile compiled in step(), where the setting compiles that."""
    clipped_norms: list[ClippedNorms] = field(default_factory=list)
    """The norms of each clipping over the whole model."""
    scaler_error: str | None = None
    """The message of the AssertionError that GradScaler raised for want of a gradient."""
    added_to_optimizer: Positions = ()
    """The members of groups that were added to the optimizer."""
    optimizer_created: bool = False
    """Whether the first optimizer was created: until then there was nothing to own."""
    chosen_settings: tuple[str, ...] = ()
    """The settings that the user's own way gave a group, and that no other one has."""
    means_settings: bool = False
    """Whether it means to."""
    state_lost: bool = False
    """Whether a new optimizer lacks state or settings that the old one had."""
    state_cast: bool = False
    """Whether loading a checkpoint changed the dtype of the optimizer's state."""
    unlike_attributes: tuple[str, ...] = ()
    """The optimizer's own attributes that have other values after loading a checkpoint."""
    flags_flipped_by_adding: Positions = ()
    """The parameters whose requires_grad changed when their group was added."""
    closure: ClosureUse | None = None
    activations: list[Activation] | None = None
    """The output of each layer, where the case is traced."""
    cost: Cost | None = None
    owned: Positions = ()
    """The parameters that the optimizer owns, sorted."""
    weights: tuple[Bits, ...] = ()
    has_gradient: tuple[bool, ...] = ()
    buffers: tuple[Bits, ...] = ()
    buffer_names: tuple[str, ...] = ()
    frozen_eval_buffers: Positions = ()
    """The positions of buffers that belong to a frozen module in eval mode."""
    modes: tuple[Any, ...] = ()
    """For each forward pass: whether each module is in train mode, and keeps running statistics."""
    flags: tuple[bool, ...] = ()
    """requires_grad of each parameter."""
    flipped_flags: Positions = ()
    """The parameters whose requires_grad is not as the approach left it."""
    grad_enabled: bool = True
    default_dtype: tuple[str, str] | None = None
    """torch's default dtype before and after, where the optimizer changed it."""
    groups_kept: bool = True
    """Whether the optimizer's groups hold the parameters that they were given."""
    group_order: Positions | None = None
    """The parameters that the groups were given, in their order; None where it is not known."""
    stateful: Positions = ()
    """The parameters with non-empty optimizer state."""
    states: dict[int, dict[str, Bits]] = field(default_factory=dict)
    """Optimizer state of the watched parameters, those that the program freezes, by its keys.

    A state that has no keys is that of the key "".
    """
    learning_rates: tuple[Any, ...] = ()
    """The learning rate of each owned parameter, where the program changes learning rates."""
    group_numbers: tuple[Any, ...] = ()
    """The numbers in each owned parameter's group, where the program freezes or thaws."""
    counts: tuple[Mapping[str, float], ...] = ()
    """The plain numbers that each owned parameter's group and optimizer hold, where the case
    compares with optimizers of single parameters."""
    rng_state: Bits = b""
    """The state of the random number generators."""
    drew_random_numbers: bool = False
    """Whether the optimizer, or its closure, drew random numbers."""

    @property
    def before(self) -> Observation:
        """The observation of the event before."""
        assert self.previous is not None
        return self.previous

    @property
    def weights_before(self) -> tuple[Bits, ...]:
        """The weights before the event, or before its step where the forward pass rewrites them."""
        return self.before.weights if self.weights_at_step is None else self.weights_at_step

    def gradient_at_step(self, i: int) -> Bits | None:
        """The gradient of parameter `i` at the call of step(); None also if it was not seen."""
        return None if self.grads_at_step is None else self.grads_at_step[i]


@dataclass(slots=True)
class Crash:
    """An exception of the optimizer, or of the model after the optimizer changed it."""

    role: Role
    index: int
    """The number of the event; -1 while the training was built."""
    phase: Phase
    error: BaseException
    grads_at_step: Grads | None = None
    """The gradients that the optimizer received before it raised; None where it was not called."""
    learning_rates: tuple[Any, ...] = ()
    """The learning rates of the optimizer's groups."""
    source: SourceLine | None = None
    """The line of the optimizer's source that raised."""
    waited: str = ""
    """The collective in which a rank waited for others until the time limit."""
    rank: int = 0

    def __str__(self) -> str:
        text = " ".join(str(self.error).split())
        return f"{type(self.error).__name__}: {text[:300]}" if text else type(self.error).__name__

    @property
    def caught(self) -> str:
        """The name of a builtin exception that catches it."""
        return next(
            str(kind.__name__)
            for kind in type(self.error).__mro__
            if getattr(builtins, kind.__name__, None) is kind
        )


class EventRecord(NamedTuple):
    """One event of a trial.

    The roles `a` and `b` are always observed; the others where the case draws them, or where its
    program has a checkpoint.
    """

    number: int
    """The number of the event in the program, from 0."""
    event: AnyEvent
    mask: MaskState
    """The parameters that are frozen during the event."""
    last: bool
    """Whether it is the last event of the program."""
    observations: dict[Role, Observation]
    others: tuple[dict[Role, Observation], ...] = ()
    """In the record of rank 0: the observations of the other ranks."""


class Trial:
    """One run of a case under all its approaches, on one rank, up to the first violation."""

    def __init__(self, case: Case, names: dict[Role, str], subject: Subject, rank: int = 0) -> None:
        self.case = case
        self.subject = subject
        self.rank = rank
        self.names = names
        """The name of the approach of each role."""
        self.starts: dict[Role, Observation] = {}
        """Weights and buffers of the new models, before the optimizer was built."""
        self.records: list[EventRecord] = []
        self.crash: Crash | None = None
        """The exception that ended the trial."""
        self.diverged: dict[tuple[Role, Role], str] = {}
        """Pairs of roles that legitimately train differently from some event on, with the cause."""
        self.restored: dict[int, Positions] = {}
        """Event -> parameters that a known breach moved, and that were restored at its end."""
        self.moved_on_zero_grad: bool | None = None
        """Whether the optimizer moves a parameter whose gradient is zeros; None: not seen."""
        self.rounding = 0.0
        """The largest difference that passed as rounding, in units in the last place."""

    @property
    def allows_rounding(self) -> bool:
        return self.subject.rounding is not None

    def first_added(self, role: Role) -> EventRecord | None:
        """The first event at which this role added a group to its optimizer."""
        added = (each for each in self.records if each.observations[role].added_to_optimizer)
        return next(added, None)


@lru_cache(maxsize=4096)
def picker(positions: Positions) -> Callable[[Sequence[Any]], Any]:
    """A function that takes the items at `positions`, as something comparable."""
    return itemgetter(*positions) if positions else lambda items: ()
