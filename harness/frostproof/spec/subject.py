"""A subject: an optimizer under test, with what it can do and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from hypothesis.strategies import SearchStrategy

from frostproof.errors import CaseError, UsageError
from frostproof.spec.case import Case, DType, Value
from frostproof.spec.casefile import load_case
from frostproof.spec.ids import IDS

Kind = Literal["any", "up-to-2d", "matrices", "sparse"]
Takes = Literal["parameters", "named-parameters", "model", "optimizer", "two-lists"]
Closure = Literal["never", "optional", "required", "after-backward"]
Backward = Literal["plain", "create-graph", "fused"]
Ability = Literal[
    "SaveLoad",
    "SetLr",
    "Schedule",
    "Clip",
    "ZeroGrad",
    "set_to_none",
    "micro-batches",
    "drop",
    "autocast",
    "scaler",
]
"""What some optimizers cannot do: kinds of events, `zero_grad(set_to_none=...)`, and ways to take a step."""

Options = tuple[tuple[str, Value], ...]
Choice = tuple[Options, ...]
"""Alternatives for hyperparameters that only make sense together, the simplest first."""

Space = tuple[Choice, ...] | SearchStrategy[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Subject:
    """An optimizer and its capability record.

    Constructed by hand, every field may be given; for a bare class the probe finds them (see `frostproof.optimizers.probe`). Raises
    UsageError, one line, for a field with a value that it cannot have.
    """

    target: str
    """How a user names it: `module:Name`."""

    factory: Callable[..., Any] | None
    """Called with what `takes` says, and keyword arguments; returns the optimizer. None: autograd alone, no optimizer."""

    variant: str = "default"
    """Which of its implementations this is: forloop, foreach, fused, ..."""

    takes: Takes = "parameters"
    """What the factory's first argument is: a list of parameters or of parameter groups; the same with (name, parameter) pairs;
    a module, which has the parameters that the optimizer is to own and no others; or an optimizer of them, built by `base`. With
    `two-lists` its first two arguments are lists of parameters: the matrices, and all others. Either may be empty."""

    base: Callable[..., Any] | None = None
    """What builds the optimizer that this one wraps, from a list of parameters or groups; for `takes="optimizer"` alone."""

    keys: Callable[[str, tuple[int, ...]], Mapping[str, Value]] | None = None
    """Extra keys of parameter groups, such as `use_muon`: called with the name and shape of a parameter. Parameters with other
    keys are put in groups of their own."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments that make the variant, the same in every case."""

    space: Space = ()
    """The hyperparameters to draw for each parameter group: a Hypothesis strategy of keyword arguments, as
    `st.fixed_dictionaries` makes them; or one alternative of each of several choices."""

    closure: Closure = "optional"
    """Whether step() takes a closure; `after-backward`: it needs one, and gradients from a backward pass before, as SAM does."""

    backward: Backward = "plain"
    """How gradients come about: `loss.backward()`; `loss.backward(create_graph=True)`; or by the optimizer itself, whose
    `fused_backward(loss)`, or `fused_backward(loss, lr=...)`, takes the place of backward and step."""

    parameters: Kind = "any"
    """What it can train: anything, parameters of at most 2 dimensions, of exactly 2, or with sparse gradients only."""

    groups: bool = True
    """Whether it takes more than one parameter group."""

    per_parameter: bool = True
    """Whether what it knows of a parameter stays with it, so that param_groups may be edited between steps. Where not, B builds
    the optimizer anew for each mask."""

    modes: bool = False
    """Whether it has train() and eval(), as schedule-free optimizers do. It is told which mode it is in."""

    distributed: bool = False
    """Whether it needs a process group of torch.distributed. It is given a world of one."""

    patience: int = 1
    """The number of steps with a gradient after which a parameter must have moved; more than 1 where updates begin at nothing."""

    unable: tuple[Ability, ...] = ()
    """What it cannot do even with nothing frozen, so that no program asks for it."""

    dtypes: tuple[DType, ...] = ("float32", "float64", "bfloat16")
    """Parameter dtypes that it steps, the simplest first."""

    rounding: str | None = None
    """Why A and B may differ by rounding. None: they must agree bit for bit."""

    positional: str | None = None
    """Why an update depends, by design, on the order or the number of the parameters that the optimizer owns. A and B own
    other lists, and are then not compared."""

    expected_failures: Mapping[str, str] = field(default_factory=dict)
    """Invariants known to fail -> reason. Strict: one that holds after all is a failure."""

    known_cases: Mapping[str, str | Path] = field(default_factory=dict)
    """Of expected failures that a search finds too rarely: the case file, as a run saves it, that is tried first."""

    needs: tuple[str, ...] = ()
    """Constructor arguments without a default that nobody gave."""

    discovered: bool = False
    """Whether it was made from a signature alone, so that the probe may try other ways to build and step it."""

    version: str = ""
    """Version of the distribution that the optimizer comes from."""

    def __post_init__(self) -> None:
        fault = next(filter(None, self._faults()), None)
        if fault:
            raise UsageError(f"Subject {self.target!r}: {fault}")

    def _faults(self) -> Iterator[str]:
        """What is wrong with the fields, each with what to do."""
        for name, choices in _CHOICES.items():
            given = getattr(self, name)
            if given not in choices:
                yield f"{name} is {given!r}: give one of {', '.join(choices)}"
        for name, choices in (("unable", get_args(Ability)), ("dtypes", get_args(DType))):
            wrong = [each for each in getattr(self, name) if each not in choices]
            if wrong:
                yield f"{name} has {wrong[0]!r}: give some of {', '.join(choices)}"
        for name in ("factory", "base", "keys"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                yield f"{name} is {getattr(self, name)!r}: give a function or a class"
        if not self.dtypes:
            yield "dtypes is empty: name at least one"
        if not isinstance(self.space, tuple | SearchStrategy):
            yield "space is neither a strategy nor a tuple of choices: give st.fixed_dictionaries({...})"
        if (self.takes == "optimizer") != (self.base is not None):
            yield "takes='optimizer' and base belong together: give both or neither"
        if self.takes == "two-lists" and (self.groups or self.per_parameter):
            yield "takes='two-lists' has no groups: give groups=False and per_parameter=False"
        if self.patience < 1:
            yield f"patience is {self.patience!r}: give a number of steps of at least 1"
        yield from faults_of_expected(self.expected_failures)
        for identity, path in self.known_cases.items():
            if identity not in self.expected_failures:
                yield f"known_cases has {identity!r}, which is no expected failure: give its reason in expected_failures"
            try:
                _case_at(path)
            except CaseError as error:
                yield f"known_cases: {error}"

    def known_case(self, identity: str) -> Case | None:
        """The case that is tried first in the search for this expected failure, where there is one."""
        path = self.known_cases.get(identity)
        return None if path is None else _case_at(path)

    @property
    def needs_closure(self) -> bool:
        """Whether every step goes through a closure."""
        return self.closure in ("required", "after-backward")

    @property
    def name(self) -> str:
        """Target and variant, as tables show them."""
        return self.target if self.variant == "default" else f"{self.target} {self.variant}"


_CHOICES = {
    "takes": get_args(Takes),
    "closure": get_args(Closure),
    "backward": get_args(Backward),
    "parameters": get_args(Kind),
}


@cache
def _case_at(path: str | Path) -> Case:
    """Read once, as a subject is looked at again with each field that is replaced. Raises CaseError."""
    return load_case(Path(path)).case


def faults_of_expected(expected: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with expected failures, which name an invariant and give a reason, each."""
    for identity, reason in expected.items():
        if identity not in IDS:
            yield f"expected failure {identity!r} is no invariant: `frostproof list invariants` names them"
        elif not (isinstance(reason, str) and reason.strip()):
            yield f"expected failure {identity!r} has no reason: say why it fails"


AUTOGRAD = Subject(target="torch.autograd", factory=None)
"""No optimizer: what freezing means to autograd itself."""
