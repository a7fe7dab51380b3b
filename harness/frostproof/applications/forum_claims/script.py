"""An example of a claim as a script that needs torch alone: the functions that try it, and a call."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from frostproof.applications.forum_claims.claim import Claim, ClaimExample
from frostproof.training.source import WIDTH, folded

PACKAGE = __name__.rpartition(".")[0]


def claim_script(claim: Claim, example: ClaimExample) -> str:
    """The text. It exits 1 with a line that begins with the claim's id where the claim does not hold on the example, else 0."""
    functions: dict[str, FunctionType] = {}
    _gather(claim.tried, functions)
    words = f"{claim.id}: {claim.statement} Exits 1 where this does not hold, and 0 where it does."
    head = textwrap.wrap(
        words, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    given = ", ".join(f"{key}={value!r}" for key, value in example.items()).replace("'", '"')
    call = folded(f"held, seen = {claim.tried.__name__}({given})")
    verdict = ["if not held:", f'    sys.exit(f"{claim.id}: {{seen}}")', "print(seen)"]
    parts = [
        [*head, "", *_imports(functions)],
        *([_source(each)] for each in functions.values()),
        [*call, *verdict],
    ]
    return "\n\n\n".join("\n".join(part) for part in parts) + "\n"


def _gather(function: Any, found: dict[str, FunctionType]) -> None:
    """The functions of this package that it needs, each after those that it needs itself."""
    for name in sorted(_names(_source(function))):
        value = function.__globals__.get(name)
        if (
            isinstance(value, FunctionType)
            and value.__module__.startswith(PACKAGE)
            and name not in found
        ):
            _gather(value, found)
    found[function.__name__] = function


def _source(function: Any) -> str:
    """As it stands in its module, without type hints, and with the call to seed torch that everybody knows."""
    text = re.sub(r" +# type: ignore.*", "", inspect.getsource(function).strip())
    lines = text.replace("torch.default_generator.manual_seed", "torch.manual_seed").splitlines()
    hints = sorted(_hints(ast.parse("\n".join(lines))), reverse=True)
    for row, start, end in hints:
        before, after = lines[row][:start], lines[row][end:]
        default = lines[row].lstrip().startswith("def ") and after.startswith(" = ")
        lines[row] = f"{before}={after[3:]}" if default else before + after
    return "\n".join(lines)


def _hints(tree: ast.AST) -> Iterator[tuple[int, int, int]]:
    """Row, and columns from and to: what to cut out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield (
                node.lineno - 1,
                node.col_offset + len(node.arg),
                node.annotation.end_col_offset or 0,
            )
        elif isinstance(node, ast.AnnAssign):
            yield (
                node.lineno - 1,
                node.target.end_col_offset or 0,
                node.annotation.end_col_offset or 0,
            )
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield (
                node.returns.lineno - 1,
                node.returns.col_offset - len(" -> "),
                node.returns.end_col_offset or 0,
            )


def _imports(functions: dict[str, FunctionType]) -> list[str]:
    """What the functions need of the imports of their modules, and `sys`, with which the script ends."""
    needed = set().union(*(_names(_source(function)) for function in functions.values()))
    plain, members = {"sys"}, defaultdict[str, set[str]](set)
    for module in {sys.modules[function.__module__] for function in functions.values()}:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.Import):
                plain |= {each.name for each in node.names} & needed
            elif (
                isinstance(node, ast.ImportFrom)
                and node.module is not None
                and not node.module.startswith(PACKAGE)
            ):
                members[node.module] |= {each.name for each in node.names} & needed
    lines = [f"import {name}" for name in sorted(plain)]
    lines += [
        f"from {name} import {', '.join(sorted(names))}"
        for name, names in sorted(members.items())
        if names
    ]
    ours = [line for line in lines if line.split()[1].startswith("torch")]
    return [*(line for line in lines if line not in ours), "", *ours]


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
