"""A claim of the forum thread: its words, what they mean exactly, and the function that tries it."""

from __future__ import annotations

from collections.abc import Callable
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
"""Keyword arguments, all of them plain values that a script can write down."""


class Quote(msgspec.Struct, frozen=True):
    post: Post
    words: str


@dataclass(frozen=True)
class Claim:
    """`statement` is what `tried(**example)` decides: whether it held, and what was seen, in words and numbers.

    `tried` and `condition` are plain torch. What `tried` calls and imports becomes the script of an example, so that nothing of
    this package may be in it but functions. `examples` draws what is simplest first.
    """

    id: str
    quotes: tuple[Quote, ...]
    statement: str
    examples: SearchStrategy[ClaimExample]
    tried: Callable[..., tuple[bool, str]]
    only_if: str = ""
    condition: Callable[..., bool] | None = None
    """Where there is one, the claim is to hold exactly where `condition(**example)` is true, which `only_if` says in words."""
