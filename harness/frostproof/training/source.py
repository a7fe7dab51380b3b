"""Python source as data: statements, marks between them, merged variants, and folded lines."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, NamedTuple

SOURCE_NAME = "<training>"
"""The name of the file in the place of which the statements of a training stand."""

WIDTH = 100


class At(NamedTuple):
    """A mark between statements: a point of a training that an observer, or a script, may use.

    A mark has no text of its own.
    """

    point: str
    value: str = ""
    """An expression for what there is to observe."""
    data: Any = None
    """What there is to observe, where it is known without running anything."""


class Block(NamedTuple):
    """A compound statement: `head` ends with a colon."""

    head: str
    body: tuple[str | Block | At, ...]


Statement = str | Block | At
Statements = Sequence[Statement]


def block(head: str, *body: Statement) -> Block:
    return Block(head, body)


def merged(left: Statements, right: Statements, name: str, value: str) -> list[Statement]:
    """Statements that do what `left` does where `name` has this value, else what `right` does."""
    found: list[Statement] = []
    for kind, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        one, other = left[i:j], right[k:m]
        pairs = [
            (a, b)
            for a, b in zip(one, other, strict=False)
            if isinstance(a, Block) and isinstance(b, Block) and a.head == b.head
        ]
        if kind == "equal":
            found += one
        elif all(isinstance(each, str) and each.startswith("#") for each in (*one, *other)):
            found += [*one, *other]
        elif len(pairs) == len(one) == len(other):
            found += [Block(a.head, tuple(merged(a.body, b.body, name, value))) for a, b in pairs]
        elif not one:
            found.append(Block(f"if {name} != {value}:", tuple(other)))
        else:
            found.append(Block(f"if {name} == {value}:", tuple(one)))
            if other:
                found.append(Block("else:", tuple(other)))
    return found


def rendered(statements: Iterable[Statement], indent: str = "") -> list[str]:
    """The lines of the statements, with empty lines around functions.

    No line is longer than WIDTH where brackets allow to fold it.
    """
    lines: list[str] = []
    gap = [""] * (1 if indent else 2)
    after = False
    for statement in statements:
        function = isinstance(statement, Block) and statement.head.startswith("def ")
        if lines and (function or after):
            while not lines[-1]:
                lines.pop()
            lines += gap
        after = function
        if isinstance(statement, At):
            raise TypeError(f"{statement} has no text")
        if isinstance(statement, Block):
            empty = all(isinstance(each, str) and each.startswith("#") for each in statement.body)
            lines += [
                *folded(statement.head, indent),
                *rendered((*statement.body, *["pass"] * empty), indent + "    "),
            ]
        elif statement or not (lines and after):
            lines += folded(statement, indent) if statement else [""]
    return lines


def refolded(source: str) -> list[str]:
    """The lines of a source, each of which is a statement, folded where they are too long."""
    stripped = [(line, line.lstrip()) for line in source.splitlines()]
    return [part for line, text in stripped for part in folded(text, line[: len(line) - len(text)])]


def folded(line: str, indent: str = "") -> list[str]:
    """The line; if it is too long, the content of its last outermost brackets on new lines."""
    spot = _brackets(line) if len(indent) + len(line) > WIDTH and not line.startswith("#") else None
    if spot is None:
        return [indent + line]
    start, cuts, end, separated = spot
    parts = [
        part
        for a, b in pairwise((start + 1, *cuts, end))
        if (part := line[a:b].removeprefix(",").strip())
    ]
    together = (", " if separated else " ").join(parts)
    deeper = indent + "    "
    call = line[start - 1 : start].isidentifier()
    if len(deeper) + len(together) <= WIDTH and (call or not separated or len(parts) == 1):
        inner = [deeper + together]
    elif separated and (call or len(parts) > 1):
        inner = [text for part in parts for text in folded(f"{part},", deeper)]
    else:
        inner = [text for part in parts for text in folded(part, deeper)]
    return [indent + line[: start + 1], *inner, indent + line[end:]]


def _brackets(line: str) -> tuple[int, list[int], int, bool] | None:
    """Where the last outermost brackets open, can be cut, and close; whether commas cut them."""
    found = None
    depth = start = 0
    cuts: list[int] = []
    separated = True
    try:
        tokens = tokens_of(line)
    except tokenize.TokenError:  # the head of a block in which a bracket stays open
        return None
    for token in tokens:
        place = token.start[1]
        if (
            token.type == tokenize.NAME
            and depth == 1
            and token.string in ("for", "lambda")
            and separated
        ):
            cuts, separated = [place] if token.string == "for" else [], False
        elif (
            token.type == tokenize.NAME
            and depth == 1
            and token.string == "if"
            and cuts
            and not separated
        ):
            cuts.append(place)
        elif token.type != tokenize.OP:
            continue
        elif token.string in "([{":
            depth += 1
            if depth == 1:
                start, cuts, separated = place, [], True
        elif token.string in ")]}":
            depth -= 1
            if depth == 0 and place > start + 1:
                found = (start, cuts, place, separated)
        elif token.string == "," and depth == 1 and separated:
            cuts.append(place)
    return found


def tokens_of(source: str) -> list[tokenize.TokenInfo]:
    """The tokens of a source, in which an f-string is one string.

    From Python 3.12 on, the tokens of its parts are told, and nothing may be cut there. Raises
    tokenize.TokenError.
    """
    found: list[tokenize.TokenInfo] = []
    starts: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":
            starts.append(token)
        elif name == "FSTRING_END":
            whole = starts.pop()._replace(type=tokenize.STRING, end=token.end)
            found += [] if starts else [whole]
        elif not starts:
            found.append(token)
    return found
