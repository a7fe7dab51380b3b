"""An example of a claim as a script that needs torch alone: its experiment, and a call of it."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections import defaultdict
from types import FunctionType
from typing import Any

from frostproof.applications.forum_claims.claim import Claim, ClaimExample
from frostproof.counterexamples.network import plain
from frostproof.training.source import WIDTH, folded

FORUM_CLAIMS = __name__.rpartition(".")[0]
APPROACHES = "A: requires_grad=False on frozen layers. B: only trained layers in the optimizer."


def claim_script(claim: Claim, example: ClaimExample) -> str:
    """The text.

    If the claim fails on the example, the script exits with 1 and prints a line that begins
    with the claim's id. Otherwise it exits with 0.
    """
    functions: dict[str, FunctionType] = {}
    _gather(claim.experiment, functions)
    sources = {name: _source(function) for name, function in functions.items()}
    words = f"{claim.id}: {claim.statement} Exits with 1 if this fails here, else with 0. "
    words += APPROACHES if "approach" in "".join(sources.values()) else ""
    head = textwrap.wrap(
        words, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    given = ", ".join(f"{key}={value!r}" for key, value in example.items()).replace("'", '"')
    call = folded(f"held, seen = {claim.experiment.__name__}({given})")
    verdict = ["if not held:", f'    sys.exit(f"{claim.id}: {{seen}}")', "print(seen)"]
    parts = [[*head, "", *_imports(functions, sources)], *([text] for text in sources.values())]
    return "\n\n\n".join("\n".join(part) for part in [*parts, [*call, *verdict]]) + "\n"


def _gather(function: Any, found: dict[str, FunctionType]) -> None:
    """Add the functions of this package that the function calls, and then the function itself."""
    for name in sorted(_names(_source(function))):
        value = function.__globals__.get(name)
        is_ours = isinstance(value, FunctionType) and value.__module__.startswith(FORUM_CLAIMS)
        if is_ours and name not in found:
            _gather(value, found)
    found[function.__name__] = function


def _source(function: Any) -> str:
    """The source without types and docstring, which seeds torch by the usual call."""
    lines = plain(function).splitlines()
    text = [
        each
        for line in lines
        for each in folded(line.lstrip(), " " * (len(line) - len(line.lstrip())))
    ]
    return "\n".join(text).replace("torch.default_generator.manual_seed", "torch.manual_seed")


def _imports(functions: dict[str, FunctionType], sources: dict[str, str]) -> list[str]:
    """The imports of the functions' modules that they need, and `sys`, with which a script ends."""
    needed = set().union(*map(_names, sources.values()))
    plain_imports, members = {"sys"}, defaultdict[str, set[str]](set)
    for module in {sys.modules[function.__module__] for function in functions.values()}:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.Import):
                plain_imports |= {each.name for each in node.names} & needed
            elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith(FORUM_CLAIMS):
                members[str(node.module)] |= {each.name for each in node.names} & needed
    lines = [f"import {name}" for name in sorted(plain_imports)]
    for module_name, names in sorted(members.items()):
        if names:
            lines.append(f"from {module_name} import {', '.join(sorted(names))}")
    of_torch = [line for line in lines if line.split()[1].startswith("torch")]
    return [*(line for line in lines if line not in of_torch), "", *of_torch]


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
