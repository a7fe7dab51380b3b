"""The layout of a script: loops over equal events, and its imports in order."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from frostproof.training.source import Block, Statement


def draw_call(line: str) -> tuple[str, str] | None:
    """The seed and the number of the batches that a line draws, if it does."""
    match = re.match(
        r" *(?:x, y|batches|\(\(x, y\),\)) = (?:batch|draw)\((\w+)(?:, (\d+))?\)$", line
    )
    return (match[1], match[2] or "1") if match else None


def looped(events: Sequence[Sequence[Statement]]) -> list[Statement]:
    """The statements of all events; of equal ones that follow each other, one loop."""
    found: list[Statement] = []
    at = 0
    while at < len(events):
        end = at + 1
        pattern, seed = _pattern(events[at])
        while (
            seed
            and end < len(events)
            and _pattern(events[end]) == (pattern, _pattern(events[end])[1])
            and _pattern(events[end])[1]
        ):
            end += 1
        if end - at > 1:
            seeds = ", ".join(_pattern(each)[1] for each in events[at:end])
            found.append(Block(f"for seed in ({seeds}):", pattern))
        else:
            found += events[at]
        at = end
    return found


def _pattern(statements: Sequence[Statement]) -> tuple[tuple[Statement, ...], str]:
    """The statements with the name `seed` for the seed of their batch, and that seed.

    The seed is empty where the first statement draws no batch.
    """
    if not statements or not isinstance(statements[0], str):
        return tuple(statements), ""
    call = draw_call(statements[0])
    if call is None:
        return tuple(statements), ""
    return (re.sub(r"\(\d+", "(seed", statements[0], count=1), *statements[1:]), call[0]


def sorted_imports(imports: Iterable[str]) -> Iterator[str]:
    """The imports as isort has them: the standard library, then torch, then the rest.

    A line before the rest says where to find it, if it is not installed.
    """
    standard = {
        *("sys", "inspect", "io", "copy", "ctypes", "random", "contextlib"),
        *("datetime", "os", "tempfile"),
    }
    known: list[str] = []
    others: list[str] = []
    for each in sorted(imports, key=lambda line: (line.startswith("from"), line)):
        (known if each.split()[1] in standard else others).append(each)
    torches = [each for each in others if each.split()[1].partition(".")[0] in ("torch", "numpy")]
    yield from known
    yield ""
    yield from torches
    rest = [each for each in others if each not in torches]
    roots = dict.fromkeys(each.split()[1].partition(".")[0] for each in rest)
    if rest:
        yield ""
    for root in filter(_is_here, roots):
        yield f'sys.path.insert(0, "")  # {root} is in the folder in which this is run'
        break
    yield from rest


def _is_here(name: str) -> bool:
    """Whether a module was imported from the current folder, where a script would not look."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    found = Path(file) if file else Path(next(iter(getattr(module, "__path__", ())), "/"))
    package = found.parent if found.name == "__init__.py" else found
    return package.parent == Path.cwd()
