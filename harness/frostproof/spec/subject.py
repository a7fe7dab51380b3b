"""A subject: an optimizer under test, what it can do, and what is known about it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from hypothesis.strategies import SearchStrategy

from frostproof.errors import CaseError, UsageError, did_you_mean
from frostproof.spec.case import Case, DType, Value
from frostproof.spec.casefile import load_case
from frostproof.spec.ids import IDS
from frostproof.spec.setting import EAGER, Setting

ParameterKind = Literal["any", "up-to-2d", "matrices", "sparse"]
Takes = Literal[
    "parameters", "parameter-list", "named-parameters", "model", "optimizer", "two-lists"
]
Closure = Literal["never", "optional", "required", "with-arguments", "after-backward", "loss-alone"]
Backward = Literal["plain", "create-graph", "fused", "in-step"]
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
    "zero-elements",
]
"""Kinds of events, the argument of zero_grad, ways to take a step, and parameters that have no
elements."""

Options = tuple[tuple[str, Value], ...]
Choice = tuple[Options, ...]
"""Alternative values of hyperparameters that belong together, the simplest first."""

Values = Mapping[str, list[Any]]
"""The values of each hyperparameter, the simplest first."""

Space = tuple[Choice, ...] | SearchStrategy[dict[str, Any]] | Values


@dataclass(frozen=True, eq=False)
class Subject:
    """An optimizer and its capability record.

    Whoever constructs one may state every field. For a class that was only named, the probe
    measures them (see `frostproof.optimizers.probe`). Raises UsageError, one line, for a field
    with an impossible value.
    """

    target: str
    """How a user names it: `module:Name`."""

    factory: Callable[..., Any] | None
    """Returns the optimizer; called with what `takes` says, and with keyword arguments. None means
    autograd alone, without an optimizer."""

    variant: str = "default"
    """Which of its implementations this is: forloop, foreach, fused, ..."""

    takes: Takes = "parameters"
    """The factory's first argument:

    - `parameters`: an iterable of parameters, or a list of parameter groups;
    - `parameter-list`: a list of parameters, and nothing else;
    - `named-parameters`: the same with (name, parameter) pairs;
    - `model`: a module that has only the parameters that the optimizer is to own;
    - `optimizer`: an optimizer of these parameters, built by `base`;
    - `two-lists`: two arguments, a list of the matrices and one of all other parameters. Either
      may be empty. `lists` names them.
    """

    lists: tuple[str, str] | tuple[()] = ()
    """For `takes="two-lists"`: the names of the two arguments, that of the matrices first. Without
    them, the two are the first arguments."""

    base: Callable[..., Any] | None = None
    """For `takes="optimizer"` only: builds the wrapped optimizer from a list of parameters or
    groups."""

    keys: Callable[[str, tuple[int, ...]], Mapping[str, Value]] | None = None
    """Returns extra keys of parameter groups, such as `use_muon`, for the name and the shape of a
    parameter. Parameters with different keys are in different groups."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments that are the same in every case; they make the variant."""

    space: Space = ()
    """The hyperparameters to draw for a parameter group: `{"lr": [0.1, 0.01]}`, with the simplest
    value first; a Hypothesis strategy of keyword arguments, such as `st.fixed_dictionaries` makes;
    or choices, of which each gives one of its alternatives. Values become choices."""

    closure: Closure = "optional"
    """Whether step() takes a closure. `with-arguments`: it needs one, and calls it with arguments;
    `backward=False`, or False as the first, asks for the loss alone. `after-backward`: it needs
    one, and gradients from an earlier backward pass too, as SAM does. `loss-alone`: the same, but
    the closure must leave the gradients as they are."""

    backward: Backward = "plain"
    """How gradients are computed: by `loss.backward()`; by `loss.backward(create_graph=True)`; or
    by the optimizer itself. `fused`: its `fused_backward(loss)`, or `fused_backward(loss, lr=...)`,
    replaces backward and step. `in-step`: its step(closure) calls backward, and the closure
    computes the loss alone."""

    parameters: ParameterKind = "any"
    """Which parameters it can train: any, those of at most 2 dimensions, those of exactly 2, or
    only those with sparse gradients."""

    groups: bool = True
    """Whether it takes more than one parameter group."""

    per_parameter: bool = True
    """Whether its state belongs to single parameters, so that param_groups may be edited between
    steps. If not, B builds a new optimizer for each mask."""

    modes: bool = False
    """Whether it has train() and eval(), as schedule-free optimizers do, and is told its mode."""

    hooks: bool = False
    """Whether its constructor hangs hooks on parameters, as one does that steps during backward."""

    distributed: bool = False
    """Whether it needs a process group of torch.distributed. It gets one of a single process."""

    patience: int = 1
    """The number of steps with a gradient after which a parameter must have moved. It is more than
    1 for optimizers whose updates start at zero."""

    unable: tuple[Ability, ...] = ()
    """What it cannot do even with nothing frozen. No program then asks for it."""

    not_tried: tuple[str, ...] = ()
    """What the probe saw fail with nothing frozen, and the reasons, for people: a line for each."""

    dtypes: tuple[DType, ...] = ("float32", "float64", "bfloat16")
    """Parameter dtypes that it can step, the simplest first."""

    rounding: str | None = None
    """The reason why A and B may differ by rounding. None: they must agree bit for bit."""

    positional: str | None = None
    """The reason why, by design, an update depends on the order or the number of the parameters
    that the optimizer owns. A and B own different lists, so that they are then not compared."""

    coupled: str | None = None
    """The reason why, by design, what one parameter does depends on others, or why it cannot be
    told. The invariant `trains-as-alone` then does not apply."""

    expected_failures: Mapping[str, str] = field(default_factory=dict)
    """Invariants known to fail, each with the reason. One that holds after all is a failure."""

    expected_in: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The name of a setting -> the invariants known to fail in it alone, each with the reason."""

    known_cases: Mapping[str, str | Path] = field(default_factory=dict)
    """For expected failures that a search rarely finds: the case file that is tried first."""

    setting: Setting = EAGER
    """How its model and its step are wrapped: see `in_setting`."""

    needs: tuple[str, ...] = ()
    """Constructor arguments without a default and without a known value."""

    discovered: bool = False
    """Whether it was made from a signature alone: the probe may then try other ways to use it."""

    stated: Mapping[str, Any] = field(default_factory=dict)
    """The fields that its user gave to `frostproof.subjects`. The probe leaves them as they are."""

    version: str = ""
    """The version of the distribution that it comes from."""

    def __post_init__(self) -> None:
        if isinstance(self.space, Mapping):
            object.__setattr__(self, "space", _choices_of(self.space))
        fault = next(filter(None, self._faults()), None)
        if fault:
            raise UsageError(f"Subject {self.target!r}: {fault}")

    def _faults(self) -> Iterator[str]:
        """What is wrong with the fields, and what to do about it."""
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
            yield (
                "space is neither values by name nor a strategy nor a tuple of choices: "
                'give {"lr": [0.1, 0.01]}'
            )
        elif isinstance(self.space, tuple):
            yield from filter(None, map(_choice_fault, range(len(self.space)), self.space))
            yield from () if self.discovered else self.unknown_names()
        if (self.takes == "optimizer") != (self.base is not None):
            yield "takes='optimizer' and base belong together: give both or neither"
        if self.takes == "parameter-list" and self.groups:
            yield "takes='parameter-list' has no groups: give groups=False"
        if self.takes == "two-lists" and (self.groups or self.per_parameter):
            yield "takes='two-lists' has no groups: give groups=False and per_parameter=False"
        if self.lists and (self.takes != "two-lists" or len(self.lists) != 2):
            yield f"lists is {self.lists!r}: give two names, and takes='two-lists'"
        if self.patience < 1:
            yield f"patience is {self.patience!r}: give a number of steps of at least 1"
        for known in (self.expected_failures, *self.expected_in.values()):
            yield from expected_failure_faults(known)
        for identity, path in self.known_cases.items():
            if identity not in self.expected_failures:
                yield (
                    f"known_cases has {identity!r}, which is not an expected failure: "
                    "give its reason in expected_failures"
                )
            try:
                _read_known_case(path)
            except CaseError as error:
                yield f"known_cases: {error}"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of its space; empty if a strategy of its own draws."""
        return self.space if isinstance(self.space, tuple) else ()

    def unknown_names(self) -> Iterator[str]:
        """Names for which the signature of what builds the optimizer has no argument."""
        names = [("space", name) for name in drawn_names(self)]
        names += [("arguments", name) for name in self.arguments]
        if self.factory is None or not names:
            return
        try:
            parameters = inspect.signature(self.factory).parameters
        except (TypeError, ValueError):  # there is none to be had
            return
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return
        known = [*parameters][1:]
        for field_name, name in names:
            if name not in known:
                yield (
                    f"{field_name} names {name!r}, which is no argument of it: "
                    f"give {', '.join(known)}.{did_you_mean(name, known)}"
                )

    def in_setting(self, setting: Setting) -> Subject:
        """The same optimizer in this setting, with what is known to fail there."""
        known = {**self.expected_failures, **self.expected_in.get(setting.name, {})}
        return replace(self, setting=setting, expected_failures=known)

    def known_case(self, identity: str) -> Case | None:
        """The case that is tried first in the search for this expected failure, or None."""
        path = self.known_cases.get(identity)
        return None if path is None else _read_known_case(path)

    @property
    def needs_closure(self) -> bool:
        """Whether every step goes through a closure."""
        return self.closure not in ("never", "optional")

    @property
    def closure_gives_loss_alone(self) -> bool:
        """Whether the closure computes no gradients."""
        return self.backward == "in-step" or self.closure == "loss-alone"

    @property
    def runs_backward(self) -> bool:
        """Whether the optimizer runs the backward pass, so that no one else sees the gradients."""
        return self.backward in ("fused", "in-step")

    @property
    def searched_failures(self) -> Mapping[str, str]:
        """The expected failures that a search of their own must find.

        They were stated of the setting eager. In another one they may show, and need not.
        """
        return self.expected_failures if self.setting is EAGER else {}

    @property
    def label(self) -> str:
        """The variant and the setting, as results, files and ids of items name them.

        It is the variant alone where the setting is eager, and the setting alone where there is
        only one variant.
        """
        if self.setting is EAGER:
            return self.variant
        name = self.setting.name
        return name if self.variant == "default" else f"{self.variant}+{name}"

    @property
    def name(self) -> str:
        """Target, variant and setting, as tables show them."""
        return self.target if self.label == "default" else f"{self.target} {self.label}"


_CHOICES = {
    "takes": get_args(Takes),
    "closure": get_args(Closure),
    "backward": get_args(Backward),
    "parameters": get_args(ParameterKind),
}


@cache
def _read_known_case(path: str | Path) -> Case:
    """Cached, because a subject is checked again for each replaced field. Raises CaseError."""
    return load_case(Path(path)).case


def _choices_of(values: Values) -> tuple[Choice, ...]:
    """A choice for each name."""
    # Only a list has several values: betas are a tuple.
    listed = [(key, each if isinstance(each, list) else [each]) for key, each in values.items()]
    return tuple(tuple(((key, value),) for value in each) for key, each in listed)


def values_of(space: tuple[Choice, ...]) -> Values | None:
    """The same as values by name, where no hyperparameters belong together."""
    values: dict[str, list[Any]] = {}
    for choice in space:
        names = {name for options in choice for name, _ in options}
        if len(names) != 1 or names & values.keys() or any(len(each) != 1 for each in choice):
            return None
        values[names.pop()] = [value for ((_, value),) in choice]
    return values


def _choice_fault(place: int, choice: Any) -> str:
    """What is wrong with one choice of a space; empty if nothing is."""
    with suppress(TypeError, ValueError):
        names = [name for options in choice for name, _ in options]
        if isinstance(choice, tuple) and choice and all(isinstance(each, str) for each in names):
            return ""
    return (
        f"space[{place}] is {choice!r:.80}: give alternatives, each a tuple of (name, value) "
        'pairs, as ((("lr", 0.1),), (("lr", 0.01),))'
    )


def given_arguments(subject: Subject) -> str:
    """The constructor arguments that are the same in every case, for people: `rank=2, eps=1e-8`."""
    words = {name: getattr(v, "__name__", repr(v)) for name, v in subject.arguments.items()}
    text = ", ".join(f"{name}={word}" for name, word in words.items())
    return re.sub(" at 0x[0-9a-f]+", "", text)  # which tells one process from another


def drawn_names(subject: Subject) -> tuple[str, ...]:
    """The names of the hyperparameters that are drawn; empty if a strategy of its own draws."""
    names = (name for choice in subject.choices for options in choice for name, _ in options)
    return tuple(dict.fromkeys(names))


def expected_failure_faults(expected: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with expected failures: each names an invariant and has a reason."""
    if not isinstance(expected, Mapping):
        yield f"expected failures are of type {type(expected).__name__}: give {{invariant: reason}}"
        return
    for identity, reason in expected.items():
        if identity not in IDS:
            yield (
                f"expected failure {identity!r} is not an invariant: "
                f"`frostproof list invariants` names them.{did_you_mean(identity, IDS)}"
            )
        elif not (isinstance(reason, str) and reason.strip()):
            yield f"expected failure {identity!r} has no reason: say why it fails"


AUTOGRAD = Subject(target="torch.autograd", factory=None)
"""No optimizer: tests what freezing means to autograd itself."""
