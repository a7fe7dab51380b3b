"""A breach: what a judge found, as a value. Its message and the assertion of a script are made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

from frostproof.invariants.messages import at, change
from frostproof.spec.architecture import expression
from frostproof.spec.case import Case, Positions
from frostproof.spec.program import Step
from frostproof.training.observation import Moment, Observation, Trial
from frostproof.training.source import Block, Statement, block

FEW = 4
"""As many numbers are shown all; of more, the pair that differs most."""

INTEGERS = {"float32": "int32", "float64": "int64", "bfloat16": "int16"}


@dataclass(frozen=True, eq=False)
class Kind:
    """A way in which an invariant can be broken: what to say of it, and what a script asserts.

    `stuck`: something does not move. `raises`: the training ended with an exception. `aside`: it changes nothing of the training.
    """

    id: str
    message: Callable[[Shown], str]
    assertion: Callable[[Shown], Assertion]
    stuck: bool = False
    raises: bool = False
    aside: bool = False

    def __repr__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Breach:
    """What is broken, by which roles, at which event, at which parameters; and what was expected and found there.

    `roles`: one, or the two that are compared. `event`: its number, -1 before the first. `since`: the number of an earlier event
    at which it began. Tensors are bits, as in an Observation.
    """

    kind: Kind
    roles: tuple[str, ...]
    event: int
    parameters: Positions = ()
    expected: Any = None
    found: Any = None
    since: int | None = None


@dataclass
class Assertion:
    """What a script asserts. `expected` says what must hold.

    `notes`: statements within the training, by event and mark (see `frostproof.training.marks`). `setup`: before the first event.
    `returns`: of two trainings that are compared, each a call of a function, what that returns. `verdict`: statements behind the
    training, which exit where it failed. `guard`: the statements of this phase are those that raise, and what catches it.
    """

    expected: str
    notes: dict[tuple[int, str], list[Statement]] = field(default_factory=dict)
    setup: list[Statement] = field(default_factory=list)
    returns: str = ""
    verdict: list[Statement] = field(default_factory=list)
    guard: tuple[str, Block] | None = None


HELD: Literal["held"] = "held"
NOT_JUDGED = None
"""Nothing at this moment to judge."""

Judgement = Breach | Literal["held"] | None


class Shown:
    """A breach in the trial that showed it, with the words to say so to a person and in a script."""

    def __init__(self, trial: Trial, breach: Breach, invariant: str, device: str = "cpu") -> None:
        self.trial, self.breach, self.invariant, self.device = trial, breach, invariant, device
        self.case: Case = trial.case

    @property
    def message(self) -> str:
        """The breach in one line: which parameter, by how much, under which approach."""
        return self.breach.kind.message(self)

    @property
    def assertion(self) -> Assertion:
        return self.breach.kind.assertion(self)

    # Words for people

    @cached_property
    def moment(self) -> Moment:
        return self.trial.moments[self.breach.event]

    @property
    def role(self) -> str:
        return self.breach.roles[0]

    @property
    def observation(self) -> Observation:
        """What was seen of the first role at the event."""
        return self.moment.seen[self.role]

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
        return self.trial.names[self.role]

    @property
    def at(self) -> str:
        """The event."""
        return at(self.moment)

    @property
    def where(self) -> str:
        """The event, and the approach."""
        return f"{self.at}, approach {self.approach}"

    @property
    def change(self) -> str:
        """How the first parameter changed, with numbers."""
        return change(self.trial, self.parameter, self.breach.expected, self.breach.found)

    # Words for scripts

    @property
    def tensor(self) -> str:
        """The expression of the first parameter."""
        return expression(self.name)

    def leave(self, text: str) -> str:
        """The statement that ends the script with a message; `text` is the inside of an f-string."""
        quote = "'" if '"' in text else '"'
        prefix = "f" if "{" in text else ""
        return f"sys.exit({prefix}{quote}{self.invariant}: {text}{quote})"

    def copy(self, name: str = "before") -> str:
        return f"{name} = {self.tensor}.detach().clone()"

    def unlike(self, left: str, right: str) -> str:
        """A condition: the two tensors differ in some bit."""
        kind = INTEGERS[self.case.dtype]
        return f"not torch.equal({left}.view(torch.{kind}), {right}.view(torch.{kind}))"

    def differ(self, left: str, right: str, text: str) -> Statement:
        """Exits where two tensors, of the first parameter, differ in some bit."""
        if prod(self.case.parameters[self.parameter].shape) <= FEW:
            return block(
                f"if {self.unlike(left, right)}:  # bitwise",
                self.leave(f"{text} {self.name}: {{{left}.tolist()}} -> {{{right}.tolist()}}"),
            )
        numbers = f"{{{left}.flatten()[i]:.9g}} -> {{{right}.flatten()[i]:.9g}}"
        return block(
            f"if {self.unlike(left, right)}:  # bitwise",
            f"i = ({right} - {left}).abs().argmax()",
            self.leave(f"{text} {self.name}[{{i}}]: {numbers}"),
        )

    def noted(self, expected: str, point: str, *statements: Statement) -> Assertion:
        """An assertion that is made within the training, at this mark of the event."""
        return Assertion(expected, {(self.breach.event, point): [*statements]})

    def exits_if(self, condition: str, text: str) -> Block:
        return block(f"if {condition}:", self.leave(text))

    def keeps(self, expected: str, text: str) -> Assertion:
        """The first parameter must not move in the event; in its step, where the forward pass or a switch of modes rewrites weights."""
        found = Assertion(
            expected,
            verdict=[f"after = {self.tensor}.detach()", self.differ("before", "after", text)],
        )
        event = self.breach.event
        if self.observation.weights_at_step is None:
            found.notes[event, "before"] = [self.copy()]
        elif not any(parameter.renormed for parameter in self.case.parameters):
            found.notes[event, "switched"] = [self.copy()]
        elif (
            isinstance(self.moment.event, Step) and self.moment.event.closure
        ):  # which has names of its own
            found.notes[event, "before"] = ["kept = []"]
            found.notes[event, "handed"] = [f"kept[:] = [{self.tensor}.detach().clone()]"]
            found.verdict.insert(0, "(before,) = kept")
        else:
            found.notes[event, "step" if self.observation.stepped else "handed"] = [self.copy()]
        return found

    def moves(self, expected: str, text: str) -> Assertion:
        """The first parameter must have moved since an event."""
        since = self.breach.since or 0
        same = self.unlike("before", f"{self.tensor}.detach()").removeprefix("not ")
        return Assertion(
            expected, {(since, "before"): [self.copy()]}, verdict=[self.exits_if(same, text)]
        )


def raised(shown: Shown) -> str:
    """What a crash says, and why it is freezing that made it."""
    crash = shown.trial.crash
    assert crash is not None
    where = (
        f"at event {crash.index} ({shown.case.program[crash.index]!r})"
        if crash.index >= 0
        else "in the constructor"
    )
    return (
        f"{crash.phase} raised {crash} {where}, approach {shown.approach}; {shown.breach.expected}"
    )


def caught(shown: Shown) -> Assertion:
    crash = shown.trial.crash
    assert crash is not None
    call = CALLS.get(crash.phase, crash.phase)
    leave = shown.leave(f"{call} raised {{error!r:.200}}")
    return Assertion(
        f"{shown.breach.expected}, and so {call} must not raise here",
        guard=(crash.phase, block(f"except {crash.caught} as error:", leave)),
    )


CALLS = {
    "build": "the constructor",
    "zero_grad": "zero_grad()",
    "step": "step()",
    "train": "train()",
    "eval": "eval()",
    "load": "load_state_dict()",
    "regroup": "add_param_group()",
}

RAISES = Kind("raises", raised, caught, raises=True)
"""The training ended with an exception; `expected` says where it does not."""
