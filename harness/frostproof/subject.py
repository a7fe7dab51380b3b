"""A subject: an optimizer under test, with what it can do and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from frostproof.case import DType, Value

Kind = Literal["any", "up-to-2d", "matrices", "sparse"]
Ability = Literal["SaveLoad", "SetLr", "Schedule", "Clip", "autocast", "scaler"]
"""What some optimizers cannot do: kinds of events, and ways to take a step in mixed precision."""

Options = tuple[tuple[str, Value], ...]
Choice = tuple[Options, ...]
"""Alternatives for hyperparameters that only make sense together, the simplest first."""


@dataclass(frozen=True)
class Subject:
    """An optimizer and its capability record.

    Constructed by hand, every field may be given; for a bare class the probe finds them (see `frostproof.probe`).
    """

    target: str
    """How a user names it: `module:Name`."""

    factory: Callable[..., Any] | None
    """Called with parameters, or a list of parameter groups, and keyword arguments. None: autograd alone, no optimizer."""

    variant: str = "default"
    """Which of its implementations this is: forloop, foreach, fused, ..."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments that make the variant, the same in every case."""

    space: tuple[Choice, ...] = ()
    """The hyperparameters to draw: one alternative of each choice, for each parameter group."""

    closure: Literal["never", "optional", "required"] = "optional"
    """Whether step() takes a closure."""

    parameters: Kind = "any"
    """What it can train: anything, parameters of at most 2 dimensions, of exactly 2, or with sparse gradients only."""

    groups: bool = True
    """Whether it takes more than one parameter group."""

    per_parameter: bool = True
    """Whether what it knows of a parameter stays with it, so that param_groups may be edited between steps. Where not, B builds
    the optimizer anew for each mask."""

    unable: tuple[Ability, ...] = ()
    """What it cannot do even with nothing frozen, so that no program asks for it."""

    dtypes: tuple[DType, ...] = ("float32", "float64", "bfloat16")
    """Parameter dtypes that it steps, the simplest first."""

    rounding: str | None = None
    """Why A and B may differ by rounding. None: they must agree bit for bit."""

    expected_failures: Mapping[str, str] = field(default_factory=dict)
    """Invariants known to fail -> reason. Strict: one that holds after all is a failure."""

    needs: tuple[str, ...] = ()
    """Constructor arguments without a default that nobody gave."""

    version: str = ""
    """Version of the distribution that the optimizer comes from."""

    @property
    def name(self) -> str:
        """Target and variant, as tables show them."""
        return self.target if self.variant == "default" else f"{self.target} {self.variant}"


AUTOGRAD = Subject(target="torch.autograd", factory=None)
"""No optimizer: what freezing means to autograd itself."""
