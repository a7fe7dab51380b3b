"""A breach: what a judge found, as a value.

Its message and the assertion of its script are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from frostproof.invariants.messages import at, change, numbers
from frostproof.spec.architecture import expression
from frostproof.spec.case import Positions, Role
from frostproof.training.observation import Crash, EventRecord, Observation, Trial
from frostproof.training.source import Block, Statement

LABELS = {
    ("a", "again"): ("once", "again"),
    ("a", "resumed"): ("straight", "resumed"),
    ("b", "resumed-b"): ("straight", "resumed"),
    ("b", "cleared"): ("B", "cleared"),
    ("b", "second"): ("B", "second"),
    ("b", "rebuilt"): ("B", "rebuilt"),
}
"""Two roles that are compared -> what people and scripts call them, as identifiers."""

CALLS = {
    "build": "the constructor",
    "zero_grad": "zero_grad()",
    "step": "step()",
    "train": "train()",
    "eval": "eval()",
    "load": "load_state_dict()",
    "regroup": "add_param_group()",
}
"""Phase of a training -> the call of the optimizer that can raise in it."""

INTEGERS = {"float32": "int32", "float64": "int64", "bfloat16": "int16"}
"""dtype -> the integers of the same size, which compare its bits."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A way in which an invariant can be broken: what to say of it, and what a script asserts.

    Texts are templates, in which each `{word}` is an attribute of the ShownBreach.
    """

    id: str
    message: str
    """What a person reads."""
    expected: str
    """What must hold, for the head of the script."""
    assertion: Callable[[ShownBreach], Assertion]
    stuck: bool = False
    """Whether something does not move."""
    raises: bool = False
    """Whether the training ended with an exception."""
    aside: bool = False
    """Whether the breach changes nothing of the training."""

    def __repr__(self) -> str:
        return self.id

    def breach(
        self,
        record: EventRecord,
        roles: Role | tuple[Role, Role],
        i: int | None = None,
        expected: Any = None,
        found: Any = None,
        since: int | None = None,
    ) -> Breach:
        """A breach of this kind at parameter `i`, if it is about one."""
        roles = (roles,) if isinstance(roles, str) else roles
        positions = () if i is None else (i,)
        return Breach(self, roles, record.number, positions, expected, found, since)


@dataclass(frozen=True)
class Breach:
    """What is broken, where, and what was expected and found there. Tensors are bits."""

    kind: Kind
    roles: tuple[Role, ...]
    """One role, or the two that are compared."""
    event: int
    """The number of the event; -1 before the first."""
    parameters: Positions = ()
    expected: Any = None
    found: Any = None
    since: int | None = None
    """The number of the event at which it began."""


@dataclass
class Assertion:
    """What a script asserts."""

    notes: dict[tuple[int, str], list[Statement]] = field(default_factory=dict)
    """Statements within the training, by event and mark (see `frostproof.training.marks`)."""
    setup: list[Statement] = field(default_factory=list)
    """Statements before the first event."""
    returns: str = ""
    """What each of two compared trainings, a call of a function, returns."""
    verdict: list[Statement] = field(default_factory=list)
    """Statements behind the training, which exit where the assertion fails."""
    guard: tuple[str, Block] | None = None
    """The phase whose statements raise, and the block that catches the exception."""


HELD: Literal["held"] = "held"
NOT_JUDGED = None
"""There was nothing to judge at this event."""

Judgement = Breach | Literal["held"] | None
Judgements = Iterator[Breach | Literal["held"]]
"""What a judge finds at one event, item by item; it is not asked for more after a breach."""


class ShownBreach:
    """A breach in the trial that showed it, with the words for people and for scripts."""

    def __init__(self, trial: Trial, breach: Breach, invariant: str, device: str = "cpu") -> None:
        self.trial, self.breach, self.invariant, self.device = trial, breach, invariant, device
        self.case = trial.case
        self.expected, self.found, self.since = breach.expected, breach.found, breach.since

    def __getitem__(self, word: str) -> Any:
        return getattr(self, word)

    def fill(self, template: str) -> str:
        """The template with its words filled in."""
        return template.format_map(self)

    @property
    def message(self) -> str:
        """The breach in one line: which parameter, by how much, under which approach."""
        return self.fill(self.breach.kind.message)

    @property
    def must_hold(self) -> str:
        """What a script says must hold."""
        return self.fill(self.breach.kind.expected)

    @property
    def assertion(self) -> Assertion:
        return self.breach.kind.assertion(self)

    # Words for people

    @cached_property
    def record(self) -> EventRecord:
        return self.trial.records[self.breach.event]

    @property
    def observation(self) -> Observation:
        """What was observed of the first role at the event."""
        return self.record.observations[self.breach.roles[0]]

    @property
    def crash(self) -> Crash:
        assert self.trial.crash is not None
        return self.trial.crash

    @property
    def crash_at(self) -> str:
        index = self.crash.index
        return (
            f"at event {index} ({self.case.program[index]!r})"
            if index >= 0
            else "in the constructor"
        )

    @property
    def call(self) -> str:
        """The call that raised."""
        return CALLS.get(self.crash.phase, self.crash.phase)

    @property
    def parameter(self) -> int:
        """The position of the first parameter."""
        return self.breach.parameters[0]

    @property
    def name(self) -> str:
        """The name of the first parameter."""
        return self.case.parameters[self.parameter].name

    @property
    def approach(self) -> str:
        return self.trial.names[self.breach.roles[0]]

    @property
    def at(self) -> str:
        """The event."""
        return at(self.record)

    @property
    def where(self) -> str:
        """The event, and the approach."""
        return f"{self.at}, approach {self.approach}"

    @property
    def change(self) -> str:
        """How the first parameter changed, with numbers."""
        return change(self.trial, self.parameter, self.expected, self.found)

    @property
    def events(self) -> int:
        """The number of events so far."""
        return len(self.trial.records)

    @property
    def found_at(self) -> str:
        """The event whose number was found."""
        return at(self.trial.records[self.found])

    @property
    def numbers(self) -> str:
        """How a value changed, with numbers."""
        return numbers(self.case.dtype, self.expected, self.found)

    # Words for scripts

    @property
    def tensor(self) -> str:
        """An expression for the first parameter."""
        return expression(self.name)

    @property
    def integer(self) -> str:
        """The integers with which a script compares the bits of tensors."""
        return INTEGERS[self.case.dtype]

    @property
    def state(self) -> str:
        """An expression for the optimizer's state of the first parameter, as plain values."""
        items = f"optimizer.state.get({self.tensor}, {{}}).items()"
        return f"{{key: str(v.tolist() if torch.is_tensor(v) else v) for key, v in {items}}}"

    @property
    def left(self) -> str:
        """What the first of two compared trainings is called: A by the name of its approach."""
        return self._labels[0]

    @property
    def right(self) -> str:
        """What the second of two compared trainings is called."""
        return self._labels[1]

    @property
    def _labels(self) -> tuple[str, ...]:
        names = tuple(self.trial.names[role].replace("-", "_") for role in self.breach.roles)
        return LABELS.get(self.breach.roles, names)  # type: ignore[call-overload, no-any-return]
