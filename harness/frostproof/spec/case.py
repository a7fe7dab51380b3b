"""A case: one thing to try, as pure data."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from frostproof.errors import CaseError, one_line
from frostproof.spec.architecture import Architecture, expression
from frostproof.spec.layers import Linear, ParameterSpec, TiedLinear
from frostproof.spec.program import (
    AddFrozen,
    AnyEvent,
    BackwardUnderNoGrad,
    Freeze,
    Program,
    Step,
    Thaw,
    frozen_at_events,
    mask_changes,
    renamed,
)
from frostproof.spec.user_model import UserModel

Value = bool | int | float | str | tuple[float, ...] | None
DType = Literal["float32", "float64", "bfloat16"]
Extra = Literal["cleared", "second", "again", "rebuilt", "alone", "eager"]
Role = Literal["a", "b", Extra, "way", "gradual", "resumed", "resumed-b"]
"""The part that a training plays in a trial: see `frostproof.approaches.approach.Approaches`."""
Positions = tuple[int, ...]
T = TypeVar("T")
# Bounds on cases from files; drawn cases stay far below them.
FILE_MAX_EVENTS = 256
FILE_MAX_WORK = 100_000_000
"""Multiplications in all forward passes of the program."""
FILE_MAX_INTEGER = 1_000_000
"""The largest integer hyperparameter, which may be a number of iterations."""


def options_text(options: Iterable[tuple[str, Value]]) -> str:
    """Hyperparameters as arguments.

    >>> options_text([("lr", 0.1), ("betas", (0.9, 0.99))])
    'lr=0.1, betas=(0.9, 0.99)'
    """
    return ", ".join(f"{name}={value!r}" for name, value in options)


class Group(msgspec.Struct, frozen=True, repr_omit_defaults=True, forbid_unknown_fields=True):
    """A parameter group of the optimizer."""

    parameters: tuple[str, ...]
    """The names of its parameters, in order."""

    options: tuple[tuple[str, Value], ...] = ()
    """Its own hyperparameters, as (name, value) pairs."""


class MaskState(NamedTuple):
    """The frozen and the trainable parameters during one event, by their positions."""

    in_forward: Positions
    """Frozen in the forward pass."""

    in_backward: Positions
    """Frozen in the backward pass."""

    at_step: Positions
    """Frozen when the optimizer steps, and after the event."""

    trainable: Positions
    """Not frozen when the optimizer steps."""

    frozen_so_far: Positions
    """Frozen during every event so far, this one included."""


class Case(
    msgspec.Struct, frozen=True, repr_omit_defaults=True, forbid_unknown_fields=True, dict=True
):
    """A network, its frozen parameters, the optimizer's groups and the events of a training.

    Its repr is Python that builds an equal case.
    """

    architecture: Architecture | UserModel
    """The network, or how to build the user's own."""

    mask: tuple[str, ...]
    """The names of the parameters that are frozen at first."""

    groups: tuple[Group, ...]
    """They hold every parameter once. An approach may leave some out of the optimizer."""

    program: Program
    """The events, in order."""

    dtype: DType = "float32"
    """The dtype of the parameters and of floating-point samples."""

    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    """The number of samples in each batch."""

    input_requires_grad: bool = False
    """Whether the samples are leaves that require grad."""

    frozen_in_eval: bool = False
    """Whether modules whose parameters are all frozen are put into eval mode."""

    extras: tuple[Extra, ...] = ()
    """The roles that run beside A and B."""

    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    """The seed of the weights, the batches and the dropout masks."""

    @cached_property
    def positions(self) -> dict[str, int]:
        """Name of a parameter -> its position in `architecture.parameters`."""
        return {parameter.name: i for i, parameter in enumerate(self.parameters)}

    @cached_property
    def initially_frozen(self) -> Positions:
        """Positions of the parameters that are frozen at first."""
        return self._at(self.mask)

    @cached_property
    def initially_trainable(self) -> Positions:
        """Positions of the parameters that are trainable at first."""
        frozen = set(self.initially_frozen)
        return tuple(i for i in range(len(self.parameters)) if i not in frozen)

    @cached_property
    def mask_timeline(self) -> tuple[MaskState, ...]:
        """The mask during each event of the program."""
        timeline, frozen_so_far = [], set(self.initially_frozen)
        for names in frozen_at_events(self.program, self.mask):
            forward, backward, step = map(self._at, names)
            frozen_so_far &= {*forward} & {*backward} & {*step}
            trainable = tuple(i for i in range(len(self.parameters)) if i not in step)
            timeline.append(
                MaskState(forward, backward, step, trainable, tuple(sorted(frozen_so_far)))
            )
        return tuple(timeline)

    @cached_property
    def frozen_midway(self) -> Positions:
        """Positions of the parameters that some event freezes."""
        return self._named_by(Freeze)

    @cached_property
    def thawed(self) -> Positions:
        """Positions of the parameters that some event thaws."""
        return self._named_by(Thaw)

    def _named_by(self, kind: type[Freeze | Thaw]) -> Positions:
        changes = [each for event in self.program for each in mask_changes(event)]
        return self._at({n for each in changes if isinstance(each, kind) for n in each.names})

    def _at(self, names: Iterable[str]) -> Positions:
        return tuple(sorted(map(self.positions.__getitem__, names)))

    def has(self, *kinds: type[AnyEvent]) -> bool:
        """Whether the program has an event of one of these kinds."""
        return any(isinstance(event, kinds) for event in self.program)

    @property
    def differentiable_input(self) -> bool:
        """Whether the samples are leaves that require grad, which tokens cannot be."""
        return self.input_requires_grad and not self.architecture.tokens

    @property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        return self.architecture.parameters

    @property
    def size(self) -> tuple[int, ...]:
        """Smaller is simpler.

        It has the layers, the events, the layers that are not linear, the weights, the groups, the
        roles beside A and B, and the seed.
        """
        scalars = sum(prod(parameter.shape) for parameter in self.parameters)
        events = sum(1 + len(mask_changes(event)) for event in self.program)
        return (
            len(self.architecture.places),
            len(self.program),
            events,
            sum(not isinstance(place.layer, Linear) for place in self.architecture.places),
            scalars,
            len(self.groups),
            len(self.extras),
            self.seed,
        )

    def replaced(self, **fields: Any) -> Case:
        """A copy with other values for some fields."""
        return msgspec.structs.replace(self, **fields)

    def control(self, closure: bool | None = None) -> Case:
        """The control: the same training without freezing and without dropped gradients.

        A runs twice in it, to see whether it repeats. `closure`, if given, overrides that of every
        step. Events keep their numbers. Parameters beside a sparse one stay frozen, because an
        optimizer of sparse gradients could not train them.
        """
        sparse = any(parameter.sparse for parameter in self.parameters)
        mask = tuple(p.name for p in self.parameters if not p.sparse) if sparse else ()
        return self.replaced(
            mask=mask,
            extras=("again",),
            program=tuple(_unfrozen(event, closure) for event in self.program),
        )

    def without(self, kind: type[Freeze | Thaw]) -> Case:
        """The same case with no names in events of this kind; events keep their numbers."""
        return self.replaced(
            program=tuple(
                renamed(event, lambda each: () if isinstance(each, kind) else each.names)
                for event in self.program
            )
        )

    def without_drops(self) -> Case:
        """The same case with no gradient dropped."""
        kept = (
            msgspec.structs.replace(e, drop="none") if isinstance(e, Step) else e
            for e in self.program
        )
        return self.replaced(program=tuple(kept))

    def to_json(self) -> str:
        """Return the JSON, which `from_json` reads."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Case:
        """The case that `to_json` wrote. Raises CaseError, one line, on anything else."""
        try:
            case = decoded(text, cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CaseError(f"not a case: {one_line(str(error))}") from None
        case.check()
        return case

    def check(self) -> None:
        """Raise CaseError, one line, if the parts do not fit together."""
        self.architecture.check()
        names = {parameter.name: None for parameter in self.parameters}
        named = [(name, "the mask") for name in self.mask]
        named += [
            (name, repr(event))
            for event in self.program
            for each in (event, *mask_changes(event))
            for name in getattr(each, "names", ())
        ]
        for name, where in named:
            if name not in names:
                raise CaseError(f"{where} names {name!r}: the parameters are {', '.join(names)}")
        if sorted(name for group in self.groups for name in group.parameters) != sorted(names):
            raise CaseError(f"the groups must hold each parameter exactly once: {', '.join(names)}")
        if not self.program:
            raise CaseError("the program is empty: add a Step()")
        self._check_size()
        for event in self.program:
            if isinstance(event, Step) and event.closure and (mask_changes(event) or event.scaled):
                raise CaseError(
                    f"{event!r}: a step through a closure cannot freeze, thaw or use a GradScaler: "
                    "set closure=False"
                )
        if self.batch < 1 + self.architecture.needs_many:
            raise CaseError(
                f"a batch of {self.batch} is too small: "
                "batch normalisation needs 2 samples, other layers need 1"
            )

    def _check_size(self) -> None:
        if len(self.program) > FILE_MAX_EVENTS:
            raise CaseError(
                f"the program has {len(self.program):,} events: "
                f"at most {FILE_MAX_EVENTS} are allowed"
            )
        passes = sum(
            event.micro_batches if isinstance(event, Step) else 1 for event in self.program
        )
        if self.architecture.work * self.batch * passes > FILE_MAX_WORK:
            raise CaseError(
                f"the case takes more than {FILE_MAX_WORK:,} multiplications: "
                "make its layers, samples or batches smaller"
            )
        for name, value in [option for group in self.groups for option in group.options]:
            if not name.isidentifier() or name == "params":
                raise CaseError(
                    f"{name!r} cannot name a hyperparameter: "
                    "give one that the optimizer's constructor takes"
                )
            if isinstance(value, int) and abs(value) > FILE_MAX_INTEGER:
                raise CaseError(
                    f"the hyperparameter {name} is too large: "
                    f"give an integer of at most {FILE_MAX_INTEGER:,}"
                )


def decoded(text: str | bytes, kind: type[T]) -> T:
    """The case, or the case file, of this JSON. Raises MsgspecError, or RecursionError.

    Earlier versions knew drawn networks alone, and did not name the kind of one.
    """
    data = msgspec.json.decode(text)
    case = data.get("case", data) if isinstance(data, dict) else None
    network = case.get("architecture") if isinstance(case, dict) else None
    if isinstance(network, dict):
        network.setdefault("kind", Architecture.__name__)
    return msgspec.convert(data, kind)


def parameters_expression(case: Case, positions: Iterable[int]) -> str:
    """A Python expression for the parameters at `positions`, in this order."""
    wanted = list(positions)
    if wanted == list(range(len(case.parameters))):
        return "model.parameters()"
    words = []
    whole = {
        place.uses[0]: place
        for place in case.architecture.places
        if len(place.uses) > 1
        and list(place.uses) == list(range(place.uses[0], place.uses[0] + len(place.uses)))
        and not isinstance(place.layer, TiedLinear)
    }
    while wanted:
        place = whole.get(wanted[0])
        if place is not None and wanted[: len(place.uses)] == list(place.uses):
            words.append(f"*{expression(place.path)}.parameters()")
            wanted = wanted[len(place.uses) :]
        else:
            words.append(expression(case.parameters[wanted.pop(0)].name))
    if len(words) == 1 and words[0].startswith("*"):
        return words[0][1:]
    return f"[{', '.join(words)}]"


def _unfrozen(event: AnyEvent, closure: bool | None) -> AnyEvent:
    """The event without freezing, and without a backward pass that raises."""
    if isinstance(event, Freeze | Thaw | AddFrozen | BackwardUnderNoGrad):
        return Thaw(())
    if not isinstance(event, Step):
        return event
    closure = event.closure if closure is None else closure
    return msgspec.structs.replace(
        event, closure=closure, drop="none", after_forward=(), after_backward=event.clips
    )
