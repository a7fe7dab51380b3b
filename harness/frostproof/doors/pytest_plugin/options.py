"""The options of a run: each stands on pytest's command line as --frostproof-..., and in its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from frostproof.doors.pytest_plugin.time_budget import seconds
from frostproof.errors import UsageError
from frostproof.verification.profiles import PROFILES, examples

PREFIX = "frostproof"
PACKAGE = "frostproof_properties"
"""The package of our tests."""


@dataclass(frozen=True)
class Option:
    """`many`: may be given more than once. `kind`: str, int or bool."""

    name: str
    help: str
    kind: type = str
    many: bool = False


OPTIONS = (
    Option(
        "optimizer",
        "what to verify: module:Name, or module:* (default: every optimizer of torch.optim)",
        many=True,
    ),
    Option("device", "where: cpu, meta, cuda, ... (default: all that are available)", many=True),
    Option("profile", f"how much to try: {', '.join(PROFILES)} (default: dev)"),
    Option("max-examples", "examples per optimizer and device, in place of the profile's", int),
    Option(
        "time-budget", "time for the whole run, as 90s, 30m or 2h: each optimizer gets its share"
    ),
    Option(
        "shards",
        "parts into which the examples of each optimizer are split, each with a seed of its own (default: 1)",
        int,
    ),
    Option("seed", "seed of the search (default: drawn, and named in the header)", int),
    Option(
        "database",
        "where failures are remembered, beside the local folder: redis://HOST:PORT/0, a folder, ...",
        many=True,
    ),
    Option("strict", "findings that only cost memory or time fail too", bool),
    Option(
        "timeout",
        "seconds after which a worker process is ended that is still at one optimizer",
        int,
    ),
    Option("json", "write the results to this file"),
    Option("markdown", "write a summary to this file"),
    Option("html", "write one self-contained page to this file"),
    Option(
        "baseline",
        "results of an earlier run: say what is new, fixed and still there (nightly: those that --json names)",
    ),
    Option("cases", "folder for counterexamples (default: frostproof-cases)"),
)


def register(parser: pytest.Parser) -> None:
    group = parser.getgroup(PREFIX, "verification of optimizers under freezing")
    for option in OPTIONS:
        key, kind = _key(option), _INI[option.kind, option.many]
        parser.addini(key + "s" * option.many, option.help, type=kind, default=None)
        arguments: dict[str, Any] = {"dest": key, "default": None, "help": option.help}
        if option.kind is bool:
            arguments["action"] = "store_true"
        else:
            arguments |= {
                "type": option.kind,
                "metavar": option.name.upper(),
                "action": "append" if option.many else "store",
            }
        group.addoption(f"--{PREFIX}-{option.name}", **arguments)


_INI: dict[tuple[type, bool], Any] = {
    (str, True): "args",
    (str, False): "string",
    (int, False): "int",
    (bool, False): "bool",
}


def _key(option: Option) -> str:
    return f"{PREFIX}_{option.name.replace('-', '_')}"


@dataclass(frozen=True)
class Run:
    """The options of this run, command line before configuration."""

    optimizers: tuple[str, ...]
    devices: tuple[str, ...]
    profile: str
    examples: int
    time_budget: float | None
    shards: int
    seed: int | None
    databases: tuple[str, ...]
    strict: bool
    timeout: int
    json: str | None
    markdown: str | None
    html: str | None
    baseline: str | None
    cases: str

    @classmethod
    def of(cls, config: pytest.Config) -> Run:
        """In a worker, those of the process that started it, as another machine has other files. Raises UsageError."""
        if hasattr(config, "workerinput"):
            return cls(**config.workerinput["frostproof_run"])
        given = {option.name: _value(config, option) for option in OPTIONS}
        profile = given["profile"] or "dev"
        count = examples(profile, given["max-examples"])
        if given["timeout"] is not None and given["timeout"] < 1:
            raise UsageError(
                f"timeout is {given['timeout']}: give a number of seconds of at least 1"
            )
        shards = 1 if given["shards"] is None else given["shards"]
        if not 1 <= shards <= count:
            raise UsageError(
                f"shards is {shards}: give a number from 1 to that of the examples, {count}"
            )
        for name in ("json", "markdown", "html"):
            if given[name] and not Path(given[name]).absolute().parent.is_dir():
                raise UsageError(f"cannot write {given[name]!r}: make its folder first")
            if given[name] and Path(given[name]).is_dir():
                raise UsageError(
                    f"cannot write {given[name]!r}: it is a folder, so name a file in it"
                )
        if given["baseline"] and not Path(given["baseline"]).is_file():
            raise UsageError(
                f"baseline {given['baseline']!r} is not there: name the results of an earlier run"
            )
        return cls(
            optimizers=tuple(given["optimizer"] or ()),
            devices=tuple(given["device"] or ()),
            profile=profile,
            examples=count,
            time_budget=seconds(given["time-budget"]) if given["time-budget"] else None,
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


def means_us(config: pytest.Config) -> bool:
    """Whether this call of pytest names our suite, or any of our options."""
    named = any(PACKAGE in argument for argument in config.args)
    return named or any(config.getoption(_key(option), None) for option in OPTIONS)


def _value(config: pytest.Config, option: Option) -> Any:
    value = config.getoption(_key(option), None)
    return config.getini(_key(option) + "s" * option.many) if value is None else value
