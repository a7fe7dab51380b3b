"""A case: one thing to try, as pure data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from frostproof.errors import CaseError, one_line
from frostproof.spec.architecture import Architecture, expression
from frostproof.spec.layers import ParameterSpec, TiedLinear
from frostproof.spec.program import (
    AnyEvent,
    BackwardUnderNoGrad,
    Clip,
    Freeze,
    Program,
    Step,
    Thaw,
    changes,
    masks,
)

Value = bool | int | float | str | tuple[float, ...] | None
DType = Literal["float32", "float64", "bfloat16"]
Extra = Literal["cleared", "second", "again", "rebuilt"]
Role = Literal["a", "b", Extra, "gradual", "resumed", "resumed-b"]
"""The part that a training plays in a trial: see `frostproof.approaches.approach.Approaches`."""
Positions = tuple[int, ...]
MAX_EVENTS = 256
MAX_WORK = 100_000_000
MAX_INTEGER = 1_000_000
"""Bounds on what a case from a file may ask for, far above what is ever drawn: events, multiplications in all forward passes of
the program, and integers among the hyperparameters, which may be numbers of iterations."""


class Group(msgspec.Struct, frozen=True, repr_omit_defaults=True, forbid_unknown_fields=True):
    """A parameter group: names of its parameters and its own hyperparameters, as (name, value) pairs."""

    parameters: tuple[str, ...]
    options: tuple[tuple[str, Value], ...] = ()


class Frozen(NamedTuple):
    """Positions of the parameters that are frozen in the course of one event, and of those that are not.

    `forward`, `backward` and `step`: at that point of a step; the last holds after the event too. `trainable`: the rest at
    the step. `never`: frozen during all events so far, this one included.
    """

    forward: Positions
    backward: Positions
    step: Positions
    trainable: Positions
    never: Positions


class Case(
    msgspec.Struct, frozen=True, repr_omit_defaults=True, forbid_unknown_fields=True, dict=True
):
    """An architecture, what of it is frozen, how it is optimized and the events of its training.

    `mask` holds the names of what is frozen at first. `groups` partition all parameters; an approach that hands only some
    of them to the optimizer leaves the others out. `frozen_in_eval` puts modules that are frozen as a whole into eval mode.
    `extras` are the ways to run beside A and B. The repr is Python that builds an equal case.
    """

    architecture: Architecture
    mask: tuple[str, ...]
    groups: tuple[Group, ...]
    program: Program
    dtype: DType = "float32"
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    input_requires_grad: bool = False
    frozen_in_eval: bool = False
    extras: tuple[Extra, ...] = ()
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0

    @cached_property
    def positions(self) -> dict[str, int]:
        """Name of each parameter -> its position in `architecture.parameters`."""
        return {parameter.name: i for i, parameter in enumerate(self.parameters)}

    @cached_property
    def frozen(self) -> Positions:
        """Positions of what is frozen at first."""
        return self._at(self.mask)

    @cached_property
    def trainable(self) -> Positions:
        """Positions of what is trainable at first."""
        frozen = set(self.frozen)
        return tuple(i for i in range(len(self.parameters)) if i not in frozen)

    @cached_property
    def course(self) -> tuple[Frozen, ...]:
        """What is frozen during each event of the program."""
        found, never = [], set(self.frozen)
        everything = range(len(self.parameters))
        for mask in masks(self.program, self.mask):
            forward, backward, step = map(self._at, mask)
            never &= {*forward} & {*backward} & {*step}
            frozen = set(step)
            trainable = tuple(i for i in everything if i not in frozen)
            found.append(Frozen(forward, backward, step, trainable, tuple(sorted(never))))
        return tuple(found)

    @cached_property
    def frozen_midway(self) -> Positions:
        """Positions of what some event of the program freezes."""
        return self._at(
            {
                name
                for event in self.program
                for each in changes(event)
                if isinstance(each, Freeze)
                for name in each.names
            }
        )

    @cached_property
    def thawed(self) -> Positions:
        """Positions of what some event of the program thaws."""
        return self._at(
            {
                name
                for event in self.program
                for each in changes(event)
                if isinstance(each, Thaw)
                for name in each.names
            }
        )

    def _at(self, names: Iterable[str]) -> Positions:
        return tuple(sorted(map(self.positions.__getitem__, names)))

    def has(self, *kinds: type[AnyEvent]) -> bool:
        """Whether the program has an event of one of these kinds."""
        return any(isinstance(event, kinds) for event in self.program)

    @property
    def differentiable_input(self) -> bool:
        """Whether the samples are leaves that require grad; tokens cannot."""
        return self.input_requires_grad and not self.architecture.input.vocabulary

    @property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        return self.architecture.parameters

    @property
    def size(self) -> tuple[int, ...]:
        """Smaller is simpler: layers, events, scalar parameters, groups, ways to run beside A and B, seed."""
        scalars = sum(prod(parameter.shape) for parameter in self.parameters)
        events = sum(1 + len(changes(event)) for event in self.program)
        return (
            len(self.architecture.places),
            len(self.program),
            events,
            scalars,
            len(self.groups),
            len(self.extras),
            self.seed,
        )

    def replaced(self, **fields: Any) -> Case:
        """A copy with other values for some fields."""
        return msgspec.structs.replace(self, **fields)

    def control(self, closure: bool | None = None) -> Case:
        """The same training with nothing ever frozen and no gradient dropped, run twice; `closure`, where given, for every step.

        Events keep their numbers. Parameters beside a sparse one stay frozen: an optimizer of sparse gradients could not
        train them.
        """
        sparse = any(parameter.sparse for parameter in self.parameters)
        mask = tuple(p.name for p in self.parameters if not p.sparse) if sparse else ()
        return self.replaced(
            mask=mask,
            extras=("again",),
            program=tuple(_unfrozen(event, closure) for event in self.program),
        )

    def without(self, kind: type[Freeze | Thaw]) -> Case:
        """The same case in which no event of this kind names anything; events keep their numbers."""
        return self.replaced(program=tuple(_without(event, kind) for event in self.program))

    def without_drops(self) -> Case:
        """The same case with no gradient dropped."""
        return self.replaced(
            program=tuple(
                msgspec.structs.replace(e, drop="none") if isinstance(e, Step) else e
                for e in self.program
            )
        )

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Case:
        """The case that `to_json` wrote. Raises CaseError, one line, on anything else."""
        try:
            case = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CaseError(f"not a case: {one_line(str(error))}") from None
        case.check()
        return case

    def check(self) -> None:
        """Raise CaseError, in one line, where the parts do not fit together."""
        self.architecture.check()
        names = {parameter.name: None for parameter in self.parameters}
        named = [(name, "the mask") for name in self.mask]
        named += [
            (name, repr(event))
            for event in self.program
            for each in changes(event)
            for name in each.names
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
            if isinstance(event, Step) and event.closure and (changes(event) or event.scaled):
                raise CaseError(
                    f"{event!r}: a step through a closure freezes and thaws nothing, and takes no GradScaler: set closure=False"
                )
        if self.batch < 1 + any(place.layer.needs_many for place in self.architecture.places):
            raise CaseError(
                f"a batch of {self.batch} is too small: batch normalisation needs 2, anything else 1"
            )

    def _check_size(self) -> None:
        if len(self.program) > MAX_EVENTS:
            raise CaseError(
                f"the program has {len(self.program):,} events: at most {MAX_EVENTS} are allowed"
            )
        passes = sum(
            event.micro_batches if isinstance(event, Step) else 1 for event in self.program
        )
        if self.architecture.work * self.batch * passes > MAX_WORK:
            raise CaseError(
                f"the case takes more than {MAX_WORK:,} multiplications: make its layers, samples or batches smaller"
            )
        for name, value in [option for group in self.groups for option in group.options]:
            if not name.isidentifier() or name == "params":
                raise CaseError(
                    f"{name!r} is no name of a hyperparameter: give one that the optimizer's constructor takes"
                )
            if isinstance(value, int) and abs(value) > MAX_INTEGER:
                raise CaseError(
                    f"the hyperparameter {name} is too large: give an integer of at most {MAX_INTEGER:,}"
                )


def parameters(case: Case, positions: Iterable[int]) -> str:
    """An expression for the parameters at `positions`, in this order."""
    wanted = list(positions)
    if wanted == list(range(len(case.parameters))):
        return "model.parameters()"
    words, whole = (
        [],
        {
            place.uses[0]: place
            for place in case.architecture.places
            if len(place.uses) > 1 and _is_stretch(place.uses)
        },
    )
    whole = {
        first: place for first, place in whole.items() if not isinstance(place.layer, TiedLinear)
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


def _is_stretch(uses: Sequence[int]) -> bool:
    return list(uses) == list(range(uses[0], uses[0] + len(uses)))


def _unfrozen(event: AnyEvent, closure: bool | None) -> AnyEvent:
    """The event without what freezes, and without a backward pass that raises."""
    if isinstance(event, Freeze | Thaw | BackwardUnderNoGrad):
        return Thaw(())
    if not isinstance(event, Step):
        return event
    closure = event.closure if closure is None else closure
    return msgspec.structs.replace(
        event, closure=closure, drop="none", after_forward=(), after_backward=event.clips
    )


def _without(event: AnyEvent | Clip, kind: type[Freeze | Thaw]) -> Any:
    if isinstance(event, kind):
        return msgspec.structs.replace(event, names=())
    if not isinstance(event, Step):
        return event
    forward = tuple(_without(each, kind) for each in event.after_forward)
    backward = tuple(_without(each, kind) for each in event.after_backward)
    return msgspec.structs.replace(event, after_forward=forward, after_backward=backward)
