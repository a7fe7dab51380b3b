"""An invariant: a named statement that judges a trial after each event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from frostproof.errors import ViolationError
from frostproof.invariants.breach import Judgement
from frostproof.training.observation import Moment, Trial

Severity = Literal["wrong", "crash", "cost"]


@dataclass(frozen=True)
class Invariant:
    """A statement, how bad it is when broken, where it comes from, and the function that judges a moment of a trial."""

    id: str
    statement: str
    severity: Severity
    source: str
    judge: Callable[[Trial, Moment], Judgement]
    needs_values: bool = True
    """Whether it compares numbers, so that nothing can be judged on the device meta."""
    needs_optimizer: bool = True
    """Whether it says nothing of autograd alone."""
    autograd_only: bool = False
    """Whether it says nothing of an optimizer."""
    compares: bool = False
    """Whether it sets two runs side by side, which means nothing where a run does not repeat itself."""
    freezing: bool = True
    """Whether it is about freezing, so that what breaks it with nothing frozen as well is something else."""
    violation: type[ViolationError] = field(init=False)

    def __post_init__(self) -> None:
        name = "".join(word.capitalize() for word in self.id.split("-"))
        object.__setattr__(
            self,
            "violation",
            type(name, (ViolationError,), {"__module__": __name__, "__doc__": self.statement}),
        )

    def broken(self, message: str, where: str) -> ViolationError:
        """What to raise where it is violated; `where`: the optimizer, and its device."""
        return self.violation(f"{self.id}: {message}\n{where}; it must hold that {self.statement}")

    def applies(self, *, optimizer: bool, values: bool) -> bool:
        """Whether it says anything of a run with or without an optimizer, on a device with or without values."""
        fits = not self.autograd_only if optimizer else not self.needs_optimizer
        return fits and (values or not self.needs_values)
