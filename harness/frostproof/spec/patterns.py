"""Names in sentences, and the patterns by which people name parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from frostproof.errors import UsageError, did_you_mean

SHOWN = 4
"""As many names are listed of more."""


def listed(names: Sequence[str]) -> str:
    """The names in a sentence.

    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s where there is not one.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def is_match(name: str, pattern: str) -> bool:
    """Whether this name, or that of a module around it, matches the pattern.

    The part of a name that `torch.compile(model)` puts before all others may be left out.
    """
    names = {name, name.replace("_orig_mod.", "")}
    return any(fnmatchcase(each, given) for each in names for given in (pattern, f"{pattern}.*"))


def matching(patterns: Iterable[str], names: Sequence[str], given: str) -> list[str]:
    """The names that any of the patterns matches, in their order.

    A pattern is a glob, in which `*` matches dots too, or a module's path. `!pattern` leaves out
    what it matches, and a list that begins with one begins with all names.

    `given`: what the user calls a pattern. Raises UsageError if one matches nothing.

    >>> matching(["backbone"], ["backbone.0.weight", "head.weight"], "--freeze")
    ['backbone.0.weight']
    >>> matching(["head"], ["_orig_mod.head.weight"], "thaw()")
    ['_orig_mod.head.weight']
    >>> matching(["!head"], ["stem.weight", "scale", "head.weight"], "frozen")
    ['stem.weight', 'scale']
    """
    found: set[str] = set()
    for number, pattern in enumerate(patterns):
        matched = _matching(pattern.removeprefix("!"), names, given)
        if pattern.startswith("!"):
            found = ({*names} if number == 0 else found) - {*matched}
        else:
            found |= {*matched}
    return [each for each in names if each in found]


def _matching(pattern: str, names: Sequence[str], given: str) -> list[str]:
    found = [each for each in names if is_match(each, pattern)]
    if not found:
        parts = [each.split(".") for each in names]
        paths = {".".join(each[:i]): None for each in parts for i in range(1, len(each))}
        raise UsageError(
            f"{given} {pattern!r} matches no parameter: there are {listed(names)}."
            f"{did_you_mean(pattern, [*names, *paths])}"
        )
    return found


def plain_patterns(patterns: Sequence[str], names: Sequence[str], given: str) -> list[str]:
    """Patterns without `!` that match the same names: modules, and parameters of others.

    >>> plain_patterns(["!head", "!a.1"], ["a.0.weight", "a.1.weight", "head.weight"], "--freeze")
    ['a.0']
    """
    found = {*matching(patterns, names, given)}
    left = [each for each in names if each not in found]
    plain: dict[str, None] = {}
    for name in (each for each in names if each in found):
        parts = name.split(".")
        paths = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
        plain[next(path for path in paths if not any(is_match(n, path) for n in left))] = None
    return [*plain]
