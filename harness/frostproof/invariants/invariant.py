"""An invariant: a named statement that judges a trial after each event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from frostproof.invariants.breach import HELD, NOT_JUDGED, Judgement, Judgements
from frostproof.training.observation import EventRecord, Trial

Severity = Literal["wrong", "crash", "cost"]


class Violation(AssertionError):
    """Raised by a property. Each invariant has its own subclass, so that Hypothesis shrinks each
    bug by itself."""


@dataclass(frozen=True)
class Invariant:
    """A statement that must hold, and the function that judges an event of a trial."""

    id: str
    statement: str
    judgements: Callable[[Trial, EventRecord], Judgements]
    """Yields HELD, or a breach, for each item that it judges at an event."""
    source: str
    """Where the statement comes from."""
    severity: Severity = "wrong"
    """How bad a violation is."""
    needs_values: bool = True
    """Whether it compares numbers, so that nothing can be judged on the device meta."""
    needs_optimizer: bool = True
    """Whether it does not apply to autograd alone."""
    autograd_only: bool = False
    """Whether it does not apply to an optimizer."""
    compares: bool = False
    """Whether it compares two runs, which means nothing where a run does not repeat itself."""
    freezing: bool = True
    """Whether it is about freezing, so that a breach with nothing frozen has another cause."""
    violation: type[Violation] = field(init=False)
    """The exception for its violations."""

    def __post_init__(self) -> None:
        name = "".join(word.capitalize() for word in self.id.split("-"))
        attributes = {"__module__": __name__, "__doc__": self.statement}
        object.__setattr__(self, "violation", type(name, (Violation,), attributes))

    def judge(self, trial: Trial, record: EventRecord) -> Judgement:
        """The first breach at this event; else HELD, or NOT_JUDGED where it judges nothing."""
        judgement: Judgement = NOT_JUDGED
        for judgement in self.judgements(trial, record):
            if judgement is not HELD:
                break
        return judgement

    def broken(self, message: str, where: str) -> Violation:
        """What to raise where it is violated; `where`: the optimizer, and its device."""
        return self.violation(f"{self.id}: {message}\n{where}; it must hold that {self.statement}")

    def applies(self, *, optimizer: bool, values: bool) -> bool:
        """Whether it applies to a run with or without an optimizer, and with or without values."""
        fits = not self.autograd_only if optimizer else not self.needs_optimizer
        return fits and (values or not self.needs_values)
