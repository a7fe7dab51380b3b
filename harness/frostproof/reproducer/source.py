"""Python source as data: statements, two variants of them merged into one function, and lines that fit."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

WIDTH = 100


class Block(NamedTuple):
    """A compound statement: `head` ends with a colon."""

    head: str
    body: tuple[str | Block, ...]


Statement = str | Block
Statements = Sequence[Statement]


def block(head: str, *body: Statement) -> Block:
    return Block(head, body)


def merged(left: Statements, right: Statements, condition: str) -> list[Statement]:
    """Statements that do what `left` does where `condition` holds, and else what `right` does."""
    found: list[Statement] = []
    for kind, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        one, other = left[i:j], right[k:m]
        if kind == "equal":
            found += one
        elif _same_heads(one, other):
            found += [Block(a.head, tuple(merged(a.body, b.body, condition))) for a, b in zip(one, other, strict=True)]  # type: ignore[union-attr]
        elif not one:
            found.append(
                Block(f"if not ({condition}):" if " == " not in condition else f"if {condition.replace(' == ', ' != ')}:", tuple(other))
            )
        else:
            found.append(Block(f"if {condition}:", tuple(one)))
            if other:
                found.append(Block("else:", tuple(other)))
    return found


def _same_heads(one: Statements, other: Statements) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(isinstance(a, Block) and isinstance(b, Block) and a.head == b.head for a, b in pairs)


def rendered(statements: Iterable[Statement], indent: str = "") -> list[str]:
    """The lines of the statements, none of them longer than WIDTH where brackets allow it."""
    lines: list[str] = []
    for statement in statements:
        if isinstance(statement, Block):
            lines += folded(statement.head, indent)
            empty = all(isinstance(each, str) and each.startswith("#") for each in statement.body)
            lines += rendered((*statement.body, *["pass"] * empty), indent + "    ")
        else:
            lines += folded(statement, indent) if statement else [""]
    return lines


def folded(line: str, indent: str = "") -> list[str]:
    """The line, or, where it is too long, the same with one argument of its last outermost brackets to a line."""
    if len(indent) + len(line) <= WIDTH or line.startswith("#"):
        return [indent + line]
    spot = _brackets(line)
    if spot is None:
        return [indent + line]
    start, commas, end = spot
    cuts = [start, *commas, end]
    parts = [line[a + 1 : b].strip() for a, b in zip(cuts, cuts[1:], strict=False)]
    together = ", ".join(part for part in parts if part)
    if len(indent) + 4 + len(together) <= WIDTH:
        return [indent + line[: start + 1], f"{indent}    {together}", indent + line[end:]]
    inner = [text for part in parts if part for text in _argument(part, indent + "    ", comma=_takes_comma(line, start, parts))]
    return [indent + line[: start + 1], *inner, indent + line[end:]]


def _takes_comma(line: str, start: int, parts: Sequence[str]) -> bool:
    """Whether a comma may follow the last part: not after a comprehension, nor what would then become a tuple."""
    return len(parts) > 1 or (" for " not in parts[0] and line[start - 1 : start].isidentifier())


def _argument(part: str, indent: str, *, comma: bool) -> list[str]:
    lines = folded(part + ",", indent)
    return lines if comma else [*lines[:-1], lines[-1].removesuffix(",")]


def _brackets(line: str) -> tuple[int, list[int], int] | None:
    """Where the last outermost pair of brackets opens, has its commas, and closes."""
    depth, found, commas, start, whole = 0, None, [], 0, False
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(line).readline))
    except tokenize.TokenError:
        return None
    for token in tokens:
        if token.type == tokenize.NAME and token.string in ("for", "lambda") and depth == 1:
            whole = True  # its commas separate no arguments
        if token.type != tokenize.OP:
            continue
        if token.string in "([{":
            depth += 1
            if depth == 1:
                start, commas, whole = token.start[1], [], False
        elif token.string in ")]}":
            depth -= 1
            if depth == 0 and token.start[1] > start + 1:
                found = (start, [] if whole else commas, token.start[1])
        elif token.string == "," and depth == 1:
            commas.append(token.start[1])
    return found
