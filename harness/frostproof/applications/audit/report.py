"""The audit of one model and one mask: what `frostproof audit` answers, as data and as a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import torch

from frostproof.applications.audit import optimizers, passes, statements
from frostproof.applications.audit.bench import Bench
from frostproof.applications.audit.statements import Statement
from frostproof.applications.costs.report import cost_report
from frostproof.errors import UsageError
from frostproof.spec.patterns import plain_patterns
from frostproof.training.trying import model_under_test
from frostproof.training.user_models import load_model

PROBES = (
    statements.not_frozen,
    statements.partly_frozen,
    statements.looks_frozen,
    statements.tied,
    statements.misspelt,
    passes.changing_buffers,
    passes.without_gradient,
    passes.rewritten_by_modes,
    optimizers.not_owned,
    optimizers.left_over,
    optimizers.moved,
    passes.random_numbers,
    optimizers.checkpoint_of_another_mask,
)
"""In the order of the page, mistakes before notes."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What is so with these frozen parameters."""

    format: Literal["frostproof-audit"] = "frostproof-audit"
    version: Literal[1] = 1
    torch: str
    model: str
    frozen: tuple[str, ...]
    """Names of parameters."""
    trainable: tuple[str, ...]
    tied: tuple[str, ...]
    """Those of these names whose tensor has another name before."""
    setup: tuple[str, ...]
    """The lines that those of each statement follow."""
    statements: tuple[Statement, ...]
    cost: str
    """What freezing saves, in a sentence; empty where it cannot be counted."""

    @property
    def mistakes(self) -> int:
        return sum(each.severity == "mistake" for each in self.statements)


def audit(
    target: str,
    patterns: Sequence[str],
    inputs: str | None = None,
    step: str | None = None,
    optimizer: str | None = None,
    already_frozen: bool = False,
) -> Audit:
    """Audit the model at `target`. Raises UsageError.

    The arguments are those of `model_under_test`. `optimizer`: a class of torch.optim, or
    `module:name` of a class, or of a function that takes the model; by default what the factory
    returns beside the model, or AdamW. `already_frozen`: nothing is frozen beyond what the factory
    froze, and the patterns say what is meant to be frozen.
    """
    with torch.random.fork_rng():
        model = model_under_test(
            target, patterns, inputs, step, most_weights=None, as_built=already_frozen
        )
        if any(each.startswith("!") for each in patterns):
            every = load_model(target).model.named_parameters(remove_duplicate=False)
            patterns = plain_patterns(patterns, [name for name, _ in every], "--freeze")
        bench = Bench(model.network, patterns, optimizer, already_frozen)
        tried = [each for probe in PROBES for each in probe(bench)]
        found = [each for each in tried if bench.shows(each.shows)]
        cost = _cost(target, () if already_frozen else patterns, inputs, step)
    named = bench.model.named_parameters
    flags = {name: p.requires_grad for name, p in named(remove_duplicate=False)}
    if all(flags.values()) and not any(each.severity == "mistake" for each in found):
        raise UsageError(f"{target!r} returns a model in which nothing is frozen: freeze it there")
    return Audit(
        torch=str(torch.__version__),
        model=target,
        frozen=tuple(name for name, trains in flags.items() if not trains),
        trainable=tuple(name for name, trains in flags.items() if trains),
        tied=tuple(flags.keys() - dict(named()).keys()),
        setup=tuple(bench.setup),
        statements=tuple(sorted(found, key=lambda each: each.severity)),
        cost=cost,
    )


def outermost(names: Sequence[str], every: Sequence[str]) -> list[str]:
    """The names of parameters, with a module in the place of those that are all of it.

    >>> outermost(["a.0.weight", "a.1.weight"], ["a.0.weight", "a.1.weight", "b"])
    ['a']
    >>> outermost(["a.0.weight"], ["a.0.weight", "a.1.weight", "b"])
    ['a.0']
    """
    others = [each for each in every if each not in names]
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        modules = [".".join(parts[:i]) for i in range(1, len(parts))]
        whole = (
            each for each in modules if not any(other.startswith(f"{each}.") for other in others)
        )
        found[next(whole, name)] = None
    return [*found]


def _cost(target: str, patterns: Sequence[str], inputs: str | None, step: str | None) -> str:
    try:
        report = cost_report(target, patterns, inputs, step=step)
    except UsageError:
        return ""
    costs = {each.way: each.costs for each in report.ways}
    best, plain = costs[report.recommended], costs.get("B: optimizer subset")
    if best is None or plain is None or not plain.backward_flops:
        return ""
    share = 100 * best.backward_flops / plain.backward_flops
    table = "(`frostproof cost` has the table)"
    what = "these" if patterns else "what is frozen now"
    more = f"; {report.upstream}" if report.upstream else ""
    if share > 99:
        return (
            f"no way to freeze {what} saves more than 1 % of the FLOPs of the backward pass "
            f"{table}{more}"
        )
    words = f"{share:.0f} %" if share >= 1 else "less than 1 %"
    return (
        f"{report.recommended} is the cheapest way to freeze {what}: its backward pass takes "
        f"{words} of the FLOPs that it takes if only the optimizer is told {table}{more}"
    )


def audit_page(found: Audit) -> str:
    """The audit in words."""
    return "\n".join(_page(found)) + "\n"


def _page(found: Audit) -> Iterator[str]:
    frozen, trainable = (
        len({*names}.difference(found.tied)) for names in (found.frozen, found.trainable)
    )
    yield f"{found.model}: {frozen} of {frozen + trainable} parameters are frozen"
    for what, names in (("frozen", found.frozen), ("requires grad", found.trainable)):
        if names:
            text = f"{what}: {', '.join(outermost(names, (*found.frozen, *found.trainable)))}"
            yield from textwrap.wrap(
                text, 96, initial_indent="    ", subsequent_indent=" " * 12, break_on_hyphens=False
            )
    yield ""
    if not found.mistakes:
        yield "No mistake was found. Your training loop was not run: frostproof.watch looks at it."
        yield "A later stage with other frozen parameters has an audit of its own."
        yield ""
    for each in found.statements:
        text = f"{each.severity.upper()}: {each.subject}: {each.text}"
        yield from textwrap.wrap(text, 96, subsequent_indent="    ", break_on_hyphens=False)
        yield f"    >>> {each.shows[0]}"
        yield f"    >>> {each.shows[1]}"
        yield "    True"
        yield f"    mend: {each.remedy}"
        yield ""
    if found.cost:
        yield from textwrap.wrap(f"COST: {found.cost}", 96, subsequent_indent="    ")
        yield ""
    yield "Each two lines above follow these, run anew:"
    yield ""
    yield from (f"    {line}" for line in found.setup)
