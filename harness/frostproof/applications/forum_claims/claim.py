"""A claim of the forum thread: its words, their exact meaning, and the function that tests it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from hypothesis.strategies import SearchStrategy

Post = Literal[
    "first post",
    "first answer",
    "second question",
    "second answer",
    "third question",
    "third answer",
    "fourth question",
    "fourth answer",
    "last post",
]
"""The posts of https://discuss.pytorch.org/t/58156 that claim something, in order."""

ClaimExample = dict[str, Any]
"""Keyword arguments of an experiment, all of them plain values that a script can contain."""


class Quote(msgspec.Struct, frozen=True):
    post: Post
    words: str


@dataclass(frozen=True)
class Claim:
    """One claim.

    `experiment` and `condition` use plain torch and functions of this package alone, because
    their source, and that of the functions they call, becomes the script of an example.
    """

    id: str
    quotes: Mapping[Post, str]
    statement: str
    """What the experiment decides, in one sentence."""
    examples: Mapping[str, SearchStrategy[Any]]
    """Strategies for the keyword arguments of the experiment, the simplest value first."""
    experiment: Callable[..., tuple[bool, str]]
    """Called with an example; returns whether the claim held, and what was observed, in words."""
    only_if: str = ""
    """The condition in words."""
    condition: Callable[..., bool] | None = None
    """If given, the claim must hold on an example if and only if this is true of the example."""
