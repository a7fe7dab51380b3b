"""A case: one thing to try, as pure data."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal

import msgspec

from frostproof.architecture import Architecture
from frostproof.errors import CaseError
from frostproof.layers import ParameterSpec
from frostproof.program import BackwardUnderNoGrad, Program, Step

Value = bool | int | float | str | tuple[float, ...] | None
DType = Literal["float32", "float64", "bfloat16"]
Extra = Literal["cleared", "second", "again"]


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A parameter group: names of its parameters and its own hyperparameters, as (name, value) pairs."""

    parameters: tuple[str, ...]
    options: tuple[tuple[str, Value], ...] = ()


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """An architecture, what of it is frozen, how it is optimized and the events of its training.

    `mask` holds the names of the frozen parameters. `groups` partition all parameters; an approach that hands only some
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
    def frozen(self) -> tuple[int, ...]:
        """Positions of the frozen parameters in `architecture.parameters`."""
        mask = frozenset(self.mask)
        return tuple(i for i, parameter in enumerate(self.parameters) if parameter.name in mask)

    @cached_property
    def trainable(self) -> tuple[int, ...]:
        """Positions of the trainable parameters in `architecture.parameters`."""
        mask = frozenset(self.mask)
        return tuple(i for i, parameter in enumerate(self.parameters) if parameter.name not in mask)

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
        return (len(self.architecture.places), len(self.program), scalars, len(self.groups), len(self.extras), self.seed)

    def replaced(self, **fields: Any) -> Case:
        """A copy with other values for some fields."""
        return msgspec.structs.replace(self, **fields)

    def control(self, closure: bool | None = None) -> Case:
        """The same training with nothing frozen and no gradient dropped, run twice; `closure`, where given, for every step.

        Parameters beside a sparse one stay frozen: an optimizer of sparse gradients could not train them.
        """
        sparse = any(parameter.sparse for parameter in self.parameters)
        mask = tuple(p.name for p in self.parameters if not p.sparse) if sparse else ()
        program = tuple(
            Step(event.closure if closure is None else closure, event.set_to_none) if isinstance(event, Step) else event
            for event in self.program
            if not isinstance(event, BackwardUnderNoGrad)
        )
        return self.replaced(mask=mask, extras=("again",), program=program)

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Case:
        """The case that `to_json` wrote. Raises CaseError, one line, on anything else."""
        try:
            case = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CaseError(f"not a case: {error}") from None
        case.check()
        return case

    def check(self) -> None:
        """Raise CaseError, in one line, where the parts do not fit together."""
        self.architecture.check()
        names = [parameter.name for parameter in self.parameters]
        for name in self.mask:
            if name not in names:
                raise CaseError(f"the mask names {name!r}: the parameters are {', '.join(names)}")
        if sorted(name for group in self.groups for name in group.parameters) != sorted(names):
            raise CaseError(f"the groups must hold each parameter exactly once: {', '.join(names)}")
        if not self.program:
            raise CaseError("the program is empty: add a Step()")
        if self.batch < 1 + any(place.layer.needs_many for place in self.architecture.places):
            raise CaseError(f"a batch of {self.batch} is too small: batch normalisation needs 2, anything else 1")
