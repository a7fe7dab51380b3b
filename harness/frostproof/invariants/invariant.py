"""Invariants, the ways to break one, and a breach in the trial that showed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from frostproof.errors import ViolationError, one_line
from frostproof.invariants.messages import at, change, event_text, numbers
from frostproof.spec.architecture import expression
from frostproof.spec.case import Positions, Role, parameters_expression
from frostproof.spec.patterns import listed
from frostproof.training.observation import Crash, EventRecord, Observation, Trial
from frostproof.training.source import Block, Statement, block

if TYPE_CHECKING:
    from frostproof.spec.setting import Setting
    from frostproof.spec.subject import Subject

Severity = Literal["wrong", "crash", "cost"]
ViolationClass = Literal[
    "freezing", "groups", "checkpoint", "closure", "randomness", "compiled", "cost"
]
HELD: Literal["held"] = "held"
NOT_JUDGED = None
"""There was nothing to judge at this event."""

LABELS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("a", "again"): ("once", "again"),
    ("a", "alone"): ("together", "alone"),
    ("a", "eager"): ("compiled", "eager"),
    ("a", "resumed"): ("straight", "resumed"),
    ("b", "resumed-b"): ("straight", "resumed"),
    ("b", "cleared"): ("B", "cleared"),
    ("b", "second"): ("B", "second"),
    ("b", "rebuilt"): ("B", "rebuilt"),
}
"""Two roles that are compared -> what people and scripts call them, as identifiers."""

INTEGERS = {"float32": "int32", "float64": "int64", "bfloat16": "int16"}
"""dtype -> the integers of the same size, which compare its bits."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A way in which an invariant can be broken: what to say of it, and what a script asserts.

    The script fails where `condition` holds. Strings are templates, in which each `{word}` is an
    attribute of the ShownBreach. Subclasses assert something else than a condition.
    """

    id: str
    text: str
    """What is wrong, for people and for scripts."""
    condition: str = ""
    at: str = ""
    """The mark of the event at which a script asserts it; by default the end."""
    where: str = " {where}"
    """What a person reads behind the text."""
    shows: str = ""
    """What a script prints behind the text."""
    notes: Mapping[str, str | Sequence[Statement]] = field(default_factory=dict)
    """Mark of the event -> statements of the script there."""
    after: Sequence[str] = ()
    """Statements of the script right before the assertion."""
    setup: str = ""
    """A statement of the script before the first event."""
    returns: str = ""
    """What each of two trainings returns, where the script compares two."""
    stuck: bool = False
    """Whether something does not move."""
    raises: bool = False
    """Whether the training ended with an exception."""
    by_way: bool = False
    """Whether the user's own way to freeze is at fault, and not the optimizer."""
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
        both = (roles,) if isinstance(roles, str) else roles
        positions = () if i is None else (i,)
        return Breach(self, both, record.number, positions, expected, found, since)

    def assertion(self, shown: ShownBreach) -> Assertion:
        """What a script asserts of a breach of this kind."""
        event, test = shown.breach.event, [*map(shown.fill, self.after), self.test(shown)]
        found = Assertion(returns=shown.fill(self.returns), setup=[self.setup] * bool(self.setup))
        for point, notes in self.notes.items():
            filled = (shown.fill(notes),) if isinstance(notes, str) else notes
            found.notes[event, point] = [*filled]
        if self.returns:
            test.insert(0, shown.train_both)
        if self.at:
            found.notes.setdefault((event, self.at), []).extend(test)
        else:
            found.verdict = test
        return found

    def test(self, shown: ShownBreach) -> Statement:
        """The statement that exits where the condition holds."""
        return shown.exits_if(self.condition, self.text + self.shows)


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


Judgement = Breach | Literal["held"] | None
Judgements = Iterator[Breach | Literal["held"]]
"""What a judge finds at one event, item by item; it is not asked for more after a breach."""


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
    violation_class: ViolationClass = "freezing"
    """What an optimizer that violates it does wrong."""
    needs_optimizer: bool = True
    """Whether it does not apply to autograd alone."""
    autograd_only: bool = False
    """Whether it does not apply to an optimizer."""
    applies_in: Callable[[Setting], bool] | None = None
    """Tells the settings in which alone it applies; None if it applies in all. A trial ends where
    it is broken, even if that is known, because what such a setting does next are consequences."""
    compares: bool = False
    """Whether it compares two runs, which means nothing where a run does not repeat itself."""
    mend: str = ""
    """What an optimizer that violates it should do, in the imperative."""
    freezing: bool = True
    """Whether it is about freezing, so that a breach with nothing frozen has another cause."""
    violation: type[ViolationError] = field(init=False)
    """The exception for its violations."""

    def __post_init__(self) -> None:
        name = "".join(word.capitalize() for word in self.id.split("-"))
        attributes = {"__module__": __name__, "__doc__": self.statement}
        object.__setattr__(self, "violation", type(name, (ViolationError,), attributes))

    def judge(self, trial: Trial, record: EventRecord) -> Judgement:
        """The first breach at this event; else HELD, or NOT_JUDGED where it judges nothing."""
        judgement: Judgement = NOT_JUDGED
        for judgement in self.judgements(trial, record):
            if judgement is not HELD:
                break
        return judgement

    def broken(self, message: str, where: str) -> ViolationError:
        """What to raise where it is violated; `where`: the optimizer, and its device."""
        return self.violation(f"{self.id}: {message}\n{where}; it must hold that {self.statement}")

    def judges(self, subject: Subject) -> bool:
        """Whether it applies to a subject in its setting."""
        setting = subject.setting
        means = self.applies_in is None or self.applies_in(setting)
        means = means and self.id not in setting.not_judged
        return means and self.applies(optimizer=subject.factory is not None)

    def applies(self, *, optimizer: bool) -> bool:
        """Whether it applies to a run with, or without, an optimizer."""
        return not self.autograd_only if optimizer else not self.needs_optimizer


class _InScript:
    """The words of a breach inside an f-string: what an optimizer returned may be any text."""

    def __init__(self, shown: ShownBreach) -> None:
        self.shown = shown

    def __getitem__(self, word: str) -> Any:
        value = self.shown[word]
        return _Escaped(value) if isinstance(value, str) and word == "found" else value


class _Escaped(str):
    """A text whose formatted form has no meaning in an f-string in double quotes."""

    def __format__(self, spec: str) -> str:
        text = one_line(super().__format__(spec)).translate(_NO_CODE)
        return text.replace("{", "{{").replace("}", "}}")


_NO_CODE = {ord("\\"): "/", ord('"'): "'"}


class ShownBreach:
    """A breach in the trial that showed it, with the words for people and for scripts."""

    def __init__(
        self, trial: Trial, breach: Breach, invariant: Invariant, device: str = "cpu"
    ) -> None:
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
        text = self.fill(self.breach.kind.text + self.breach.kind.where)
        several = self.trial.subject.setting.ranks > 1 and self.invariant.applies_in is None
        return f"{text}; on rank {self.trial.rank}" if several else text

    @property
    def assertion(self) -> Assertion:
        return self.breach.kind.assertion(self)

    def leave(self, text: str) -> str:
        """The statement that ends the script with a message: the inside of an f-string."""
        quote = "'" if '"' in text else '"'
        prefix = "f" if "{" in text else ""
        return f"sys.exit({prefix}{quote}{self.invariant.id}: {text}{quote})"

    def exits_if(self, condition: str, text: str) -> Block:
        """The statement that ends the script with a message where a condition holds; templates."""
        said = text.format_map(_InScript(self))
        return block(f"if {self.here(self.fill(condition))}:", self.leave(said))

    def here(self, condition: str) -> str:
        """The condition, on the rank of the breach alone where each rank has its own shards."""
        if not self.sharded:
            return condition
        together = f"({condition})" if " or " in condition else condition
        return f"rank == {self.trial.rank} and {together}"

    # Words for people

    @property
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
            f"at event {index} ({event_text(self.case.program[index])})"
            if index >= 0
            else "in the constructor"
        )

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
    def buffer(self) -> str:
        """The name of the buffer whose position was expected to hold."""
        name: str = self.observation.buffer_names[self.expected]
        return name

    @property
    def unlike_attributes(self) -> str:
        """The optimizer's attributes that loading its checkpoint did not restore."""
        loaded = self.trial.records[self.since or 0].observations[self.breach.roles[1]]
        names = ", ".join(loaded.unlike_attributes)
        return f" (loading does not restore its {names})" if names else ""

    @property
    def state_change(self) -> str:
        """What of the optimizer's state of the first parameter is new, gone or another."""
        before = self.observation.before.states.get(self.parameter, {})
        after = self.observation.states.get(self.parameter, {})
        said = {
            "appeared": [key for key in after if key not in before],
            "is gone": [key for key in before if key not in after],
            "changed": [key for key in after if before.get(key, after[key]) != after[key]],
        }
        texts = [f"its {key} {word}" for word, keys in said.items() for key in keys if key]
        more = [f"{len(texts) - 2} more"] if len(texts) > 2 else []
        return f" ({', '.join([*texts[:2], *more])})" if texts else ""

    @property
    def chosen_settings(self) -> str:
        """The settings that the user's own way gave a group, and that no other one has."""
        records = self.trial.records[: self.breach.event + 1]
        names = [n for each in records for n in each.observations["way"].chosen_settings]
        chosen = listed([*dict.fromkeys(names)])
        return f" (it gave what thaws other settings: {chosen})" if names else ""

    @property
    def unlike_counts(self) -> str:
        """What its group and its optimizer count, where that is another number in another role."""
        observations = self.trial.records[self.breach.event].observations
        one, other = (
            observations[role].counts[self.breach.parameters[0]] for role in self.breach.roles
        )
        unlike = [
            f"its {name} is {number:.9g}, and {other[name]:.9g} alone"
            for name, number in one.items()
            if other.get(name, number) != number
        ]
        more = [f"{len(unlike) - 2} more"] if len(unlike) > 2 else []
        return f" ({'; '.join([*unlike[:2], *more])})" if unlike else ""

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
    def grad(self) -> str:
        """An expression for the gradient of the first parameter."""
        return f"{self.tensor}.grad"

    @property
    def gradient(self) -> str:
        """An expression for the values of that gradient, which is there, on this rank."""
        return f"{self.grad}.to_local()" if self.sharded else self.grad

    @property
    def values(self) -> str:
        """An expression for the values of the first parameter on this rank."""
        return f"{self.tensor}.to_local()" if self.sharded else self.tensor

    @property
    def sharded(self) -> bool:
        return self.trial.subject.setting.shards

    @property
    def loss(self) -> str:
        """The variable that holds the loss of a closure."""
        return "total" if getattr(self.record.event, "micro_batches", 1) > 1 else "loss"

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
        both = self.observation, self.observation.before
        if any(each.states.get(self.parameter, {}).get("", b"")[:6] == b"tensor" for each in both):
            return f"getattr({self.states}.get({self.tensor}), 'tolist', str)()"
        items = f"{self.states}.get({self.tensor}, {{}}).items()"
        if self.sharded:
            shard = "v.to_local().tolist() if hasattr(v, 'to_local')"
            return f"{{key: {shard} else str(v) for key, v in {items}}}"
        return f"{{key: str(v.tolist() if torch.is_tensor(v) else v) for key, v in {items}}}"

    @property
    def states(self) -> str:
        """An expression for the optimizer's state."""
        inner = self.trial.subject.setting.inner
        return f"optimizer.{inner}.state" if inner else "optimizer.state"

    @property
    def listed(self) -> str:
        """An expression for the parameters that were expected, in their order."""
        return parameters_expression(self.case, self.expected)

    @property
    def train_both(self) -> str:
        """The statement that runs the two trainings that are compared."""
        return f'{self.left}, {self.right} = train("{self.left}"), train("{self.right}")'

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
        return LABELS.get(self.breach.roles, names)
