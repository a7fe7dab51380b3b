"""The statements of an audit. Each has two lines of code, which were run and have shown it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec
from torch import Tensor, nn

from frostproof.applications.audit.bench import Bench, code
from frostproof.spec.patterns import SHOWN, is_match, listed

Severity = Literal["mistake", "note"]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is so in this model."""

    severity: Severity
    subject: str
    """What it is about, in a word or two."""
    text: str
    shows: tuple[str, str]
    """Two lines that follow the setup; the second is true."""
    remedy: str
    """The line that stops it, or what to do."""


Statements = Iterator[Statement]


def moves(name: str, forward: str = "", stepping: str = "train()") -> tuple[str, str]:
    """Lines that show that one step moves a tensor."""
    again = f"; {forward}" if forward else ""
    return (
        f"before = {code(name)}.detach().clone(); {stepping}{again}",
        f"not torch.equal(before, {code(name)})",
    )


def trains(bench: Bench, name: str) -> tuple[str, str]:
    """Lines that show that a parameter trains: a step moves it, or at least it requires grad."""
    lines = moves(name)
    return lines if bench.shows(lines) else ("train()", f"{code(name)}.requires_grad")


def freezing(names: list[str]) -> str:
    """The line that freezes these parameters."""
    if len(names) > SHOWN:
        return f"for each in {names}: model.get_parameter(each).requires_grad_(False)"
    return "; ".join(f"{code(each)}.requires_grad_(False)" for each in names)


def untying(name: str, others: list[str]) -> str:
    """The line that gives the parameters `others`, which are one tensor, another than `name`."""
    targets = " = ".join(map(code, others))
    return f"{targets} = torch.nn.Parameter({code(name)}.detach().clone())"


def not_frozen(bench: Bench) -> Statements:
    """What is meant to be frozen, in a model that is frozen as it is built, and trains."""
    every = dict(bench.model.named_parameters(remove_duplicate=False))
    trained = [name for name, p in every.items() if p.requires_grad]
    for pattern in bench.patterns:
        names = [each for each in trained if is_match(each, pattern)]
        if not names:
            continue
        whole = pattern in dict(bench.model.named_modules())
        text = f"{pattern!r} is meant to be frozen, and these train: {listed(names)}"
        remedy = f"{code(pattern)}.requires_grad_(False)" if whole else freezing(names)
        for name in names:
            others = [n for n in trained if every[n] is every[name] and not is_matched(bench, n)]
            if others:
                text += f"; {name} is the same tensor as {listed(others)}"
                remedy = f"{untying(name, others)}; {remedy}"
                break
        yield Statement(
            severity="mistake",
            subject="not frozen",
            text=text,
            shows=trains(bench, names[0]),
            remedy=remedy,
        )


def partly_frozen(bench: Bench) -> Statements:
    """Weights and biases that the patterns miss, in modules that they freeze otherwise."""
    found: dict[str, str] = {}
    for path, module in bench.model.named_modules():
        own = {f"{path}.{n}".lstrip("."): p for n, p in module.named_parameters(recurse=False)}
        frozen = [name for name, p in own.items() if not p.requires_grad]
        missed = [
            name
            for name, p in own.items()
            if p.requires_grad and _is_usual(module, name) and not is_matched(bench, name)
        ]
        if any(is_matched(bench, name) or not bench.patterns for name in frozen):
            found |= dict.fromkeys(missed, path or "the model")
    if found:
        names = [*found]
        text = f"{names[0]} trains, although the rest of {found[names[0]]} is frozen"
        if len(names) > 1:
            text = f"{listed(names)} train, although the rest of their modules is frozen"
        yield Statement(
            severity="mistake",
            subject="missed by the pattern",
            text=text,
            shows=trains(bench, names[0]),
            remedy=freezing(names),
        )


def _is_usual(module: nn.Module, name: str) -> bool:
    """Whether it is a weight or a bias, no adapter, and nothing that a weight is computed from."""
    last = name.rpartition(".")[2]
    computed = any(last.startswith(f"{each}_") for each in vars(module))
    return ("weight" in last or "bias" in last) and "lora" not in last.lower() and not computed


def looks_frozen(bench: Bench) -> Statements:
    """Tensors that have the name of a pattern, and are computed from parameters that train."""
    patterns = bench.patterns
    for path, module in bench.model.named_modules():
        new = getattr(module, "parametrizations", {})
        computed = {each: f"parametrizations.{each}" for each in new}
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and any(
                each.startswith(f"{name}_") for each in module._parameters
            ):
                computed[name] = f"{name}_"
        for name, prefix in computed.items():
            whole = f"{path}.{name}".lstrip(".")
            trained = [
                n for n, p in module.named_parameters() if n.startswith(prefix) and p.requires_grad
            ]
            half = not patterns and any(not p.requires_grad for p in module.parameters())
            if trained and (half or any(fnmatchcase(whole, each) for each in patterns)):
                yield Statement(
                    severity="mistake",
                    subject="only looks frozen",
                    text=f"{whole} is computed from {listed(trained)}, which train",
                    shows=moves(whole, bench.call),
                    remedy="; ".join(
                        f"{code(f'{path}.{each}'.lstrip('.'))}.requires_grad_(False)"
                        for each in trained
                    ),
                )


def tied(bench: Bench) -> Statements:
    """Parameters that have another name as well, which no pattern matches."""
    names: dict[int, list[str]] = {}
    for name, p in bench.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    for all_names in names.values():
        matched = [each for each in all_names if is_matched(bench, each)]
        others = [each for each in all_names if each not in matched]
        if matched and others:
            one, other = code(matched[0]), code(others[0])
            text = f"{others[0]} is the same tensor as {matched[0]}, so it is frozen too"
            if len(others) > 1:
                text = (
                    f"{listed(others)} are the same tensor as {matched[0]}, so they are frozen too"
                )
            yield Statement(
                severity="mistake",
                subject="tied",
                text=f"{text}; if that is meant, --freeze it by that name, too",
                shows=(f"one, other = {one}, {other}", "one is other and not other.requires_grad"),
                remedy=untying(matched[0], others),
            )


def is_matched(bench: Bench, name: str) -> bool:
    """Whether a pattern of the user matches this name."""
    return any(is_match(name, each) for each in bench.patterns)


def misspelt(bench: Bench) -> Statements:
    """Attributes that look like requires_grad, and that torch does not read."""
    things: list[tuple[str, str, Any]] = [
        (path, code(path), module) for path, module in bench.model.named_modules()
    ]
    things += [(name, code(name), p) for name, p in bench.model.named_parameters()]
    told: list[str] = []
    for name, expression, thing in things:
        for attribute, value in vars(thing).items():
            near = difflib.SequenceMatcher(None, attribute, "requires_grad").ratio() > 0.8
            inside = any(name.startswith(f"{each}.") for each in told)
            if not near or value is not False or inside:
                continue
            told.append(name)
            trains = f"{expression}.requires_grad"
            if isinstance(thing, nn.Module):
                trains = f"any(p.requires_grad for p in {expression}.parameters())"
            yield Statement(
                severity="mistake",
                subject="misspelt",
                text=f"{name or 'the model'} has the attribute {attribute}=False, which torch "
                "does not read, and it trains",
                shows=(
                    f"known = vars({expression})",
                    f"known[{attribute!r}] is False and {trains}",
                ),
                remedy=f"{expression}.requires_grad_(False)",
            )
