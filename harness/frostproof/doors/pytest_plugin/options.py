"""The options of a run: each is on pytest's command line as --frostproof-..., and an ini key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.output_files import check_writable
from frostproof.doors.pytest_plugin.items import PACKAGE
from frostproof.doors.pytest_plugin.time_budget import parse_seconds
from frostproof.errors import UsageError
from frostproof.verification.profiles import PROFILES, examples

ALL_OF_HYPOTHESIS = 2
"""The verbosity with which violations are shown as Hypothesis raises them: -vv."""

PREFIX = "frostproof"

REPORTS = ("json", "markdown", "html")
"""The options that name a file to write."""


@dataclass(frozen=True)
class Option:
    name: str
    help: str
    metavar: str = ""
    kind: type = str
    """str, int or bool."""
    many: bool = False
    """Whether it may be given more than once."""


SHARDS = Option(
    "shards",
    "number of parts into which the examples of each optimizer are split (default: as many as keep "
    "all workers busy)",
    "N",
    int,
)

OPTIONS = (
    Option(
        "optimizer",
        "what to verify: module:Name, or module:* (default: every optimizer of torch.optim)",
        "TARGET",
        many=True,
    ),
    Option(
        "model",
        "your model in the place of drawn networks: module:factory, a function that returns it; "
        "what --freeze matches, or what it comes with frozen, is frozen and thawed in turn",
        "FACTORY",
    ),
    Option(
        "freeze",
        "parameters of the model to freeze: a glob on their names, or a module; may be repeated; "
        "masks are drawn around them, with fewer and with more",
        "PATTERN",
        many=True,
    ),
    Option(
        "input",
        "a batch for the model: its sizes, as 8,3,32,32, or module:name of a function that returns "
        "one",
        "SHAPE",
    ),
    Option(
        "training-step",
        "a function of the model and a batch that returns the loss, as module:name (default: the "
        "mean of the squares of the outputs)",
        "FUNCTION",
    ),
    Option(
        "way",
        "your own way to freeze, beside A and B: module:name of a function freeze(model, names) "
        "that freezes the parameters of these names and no others and sets their grad to None, a "
        "class with freeze and thaw, or an Approach",
        "WAY",
    ),
    Option(
        "profile",
        f"how many examples to try: {', '.join(f'{k} {v}' for k, v in PROFILES.items())} "
        "(default: dev)",
        "NAME",
    ),
    Option("max-examples", "examples per optimizer and device, instead of the profile's", "N", int),
    Option(
        "time-budget",
        "time for the whole run, as 90s, 30m or 2h; each optimizer gets a share",
        "TIME",
    ),
    SHARDS,
    Option(
        "seed", "seed of the search (default: drawn at random, and shown in the header)", "N", int
    ),
    Option(
        "device",
        "device to verify on: cpu, cuda, ...; may be repeated (default: all available)",
        "NAME",
        many=True,
    ),
    Option(
        "setting",
        "setting to verify in: one of `frostproof list settings`, `all` of them, or module:NAME of "
        "a Setting; may be repeated (default: eager)",
        "NAME",
        many=True,
    ),
    Option(
        "database",
        "where failures are remembered, besides the local folder: redis://HOST:PORT/0, "
        "github:OWNER/REPOSITORY or a folder; may be repeated",
        "LAYER",
        many=True,
    ),
    Option(
        "timeout",
        "end a worker process that spends more seconds on one optimizer (default: 180, and one for "
        "each example)",
        "N",
        int,
    ),
    Option(
        "strict",
        "fail also for findings that only cost memory or time, and (exit code 5) if an optimizer "
        "of module:* is not judged",
        kind=bool,
    ),
    Option("json", "write the results to this file", "FILE"),
    Option("markdown", "write a summary to this file", "FILE"),
    Option("html", "write one self-contained page to this file", "FILE"),
    Option(
        "baseline",
        "results of an earlier run: report what is new, fixed and still there (default with the "
        "nightly profile: the file that --json names)",
        "FILE",
    ),
    Option("cases", "folder for counterexamples (default: frostproof-cases)", "FOLDER"),
)

FOR_DECORATED = ("profile", "max-examples", "seed", "cases", "strict", *REPORTS)
"""The options that tests of `@frostproof.parametrize` use, where they state no others."""

_INI_TYPES: dict[tuple[type, bool], Any] = {
    (str, True): "args",
    (str, False): "string",
    (int, False): "int",
    (bool, False): "bool",
}


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup(PREFIX, "verification of optimizers under freezing")
    for option in OPTIONS:
        key = _key(option)
        ini_type = _INI_TYPES[option.kind, option.many]
        parser.addini(key + "s" * option.many, option.help, type=ini_type, default=None)
        arguments: dict[str, Any] = {"dest": key, "default": None, "help": option.help}
        if option.kind is bool:
            arguments["action"] = "store_true"
        else:
            arguments |= {
                "type": option.kind,
                "metavar": option.metavar,
                "action": "append" if option.many else "store",
            }
        group.addoption(f"--{PREFIX}-{option.name}", **arguments)


def _key(option: Option) -> str:
    return f"{PREFIX}_{option.name.replace('-', '_')}"


EVENT_TIMEOUT_S = 60
"""Seconds for one event of a drawn network, which usually takes a few milliseconds."""


@dataclass(frozen=True)
class RunOptions:
    """The options of this run. The command line overrides the configuration."""

    optimizers: tuple[str, ...]
    model: str | None
    freeze: tuple[str, ...]
    input: str | None
    training_step: str | None
    way: str | None
    devices: tuple[str, ...]
    settings: tuple[str, ...]
    """Names of settings; empty for eager alone."""
    profile: str
    examples: int
    time_budget: float | None
    """Seconds."""
    shards: int
    seed: int | None
    databases: tuple[str, ...]
    strict: bool
    timeout: int
    """Seconds."""
    json: str | None
    markdown: str | None
    html: str | None
    baseline: str | None
    cases: str

    @property
    def event_timeout(self) -> float | None:
        """Seconds after which an event of a training hangs.

        None where it may compile, wait or be large.
        """
        if self.model is not None or set(self.settings) - {"eager"}:
            return None
        return float(min(EVENT_TIMEOUT_S, self.timeout))

    @classmethod
    def of(cls, config: pytest.Config) -> RunOptions:
        """Read the options of a process that is not a worker. Raises UsageError."""
        given = {option.name: value_of(config, option) for option in OPTIONS}
        profile = given["profile"] or "dev"
        count = examples(profile, given["max-examples"])
        shards = 1 if given["shards"] is None else given["shards"]
        _check_numbers(given["timeout"], shards, count)
        _check_files(given)
        _check_model(given)
        return cls(
            optimizers=tuple(given["optimizer"] or ()),
            model=given["model"],
            freeze=tuple(given["freeze"] or ()),
            input=given["input"],
            training_step=given["training-step"],
            way=given["way"],
            devices=tuple(given["device"] or ()),
            settings=tuple(given["setting"] or ()),
            profile=profile,
            examples=count,
            time_budget=parse_seconds(given["time-budget"]) if given["time-budget"] else None,
            shards=shards,
            seed=given["seed"],
            databases=tuple(given["database"] or ()),
            strict=bool(given["strict"]),
            timeout=given["timeout"] or 180 + count // shards,
            json=given["json"],
            markdown=given["markdown"],
            html=given["html"],
            baseline=given["baseline"],
            cases=given["cases"] or "frostproof-cases",
        )


def _check_numbers(timeout: int | None, shards: int, count: int) -> None:
    if timeout is not None and timeout < 1:
        raise UsageError(f"timeout is {timeout}: give a number of seconds of at least 1")
    if not 1 <= shards <= count:
        raise UsageError(
            f"shards is {shards}: give a number from 1 to the number of examples, {count}"
        )


def _check_model(given: Mapping[str, Any]) -> None:
    for name in ("model", "way"):
        if given[name] and not given["optimizer"]:
            raise UsageError(f"--{name} needs an optimizer that trains: name one as module:Name")


def _check_files(given: Mapping[str, Any]) -> None:
    check_writable(*(Path(given[kind]) for kind in REPORTS if given[kind]))
    cases = given["cases"]
    if cases and Path(cases).exists() and not Path(cases).is_dir():
        raise UsageError(f"cases is {cases!r}, which is a file: name a folder")
    baseline = given["baseline"]
    if baseline and not Path(baseline).is_file():
        raise UsageError(f"baseline {baseline!r} is not a file: name the results of an earlier run")


def asks_for_us(config: pytest.Config) -> bool:
    """Whether this call of pytest names our suite or one of our options."""
    names_suite = any(PACKAGE in argument for argument in config.args)
    return names_suite or any(is_given(config, option) for option in OPTIONS)


def is_given(config: pytest.Config, option: Option) -> bool:
    """Whether the command line has this option."""
    return config.getoption(_key(option), None) is not None


def value_of(config: pytest.Config, option: Option) -> Any:
    """What the command line says, else the configuration; None if neither says anything."""
    value = config.getoption(_key(option), None)
    if value is not None:
        return value
    name = _key(option) + "s" * option.many
    try:
        return config.getini(name)
    except pytest.UsageError as error:
        raise UsageError(f"{name} in the configuration: {error}") from None
