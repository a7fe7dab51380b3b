"""Strategies that spoil a valid JSON document: bytes here and there, or whole values."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

CODE = "__import__('os').system('touch /tmp/frostproof-was-here')"
HOSTILE: st.SearchStrategy[Any] = st.sampled_from(
    (
        None,
        True,
        -1,
        0,
        1,
        2**31,
        999_999_999_999,
        10**400,
        0.5,
        1e308,
        "",
        CODE,
        "../" * 9,
        "\x00",
        "\x1b[31m",
        "é" * 300,
        [],
        {},
        [[]],
    )
)


def _nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


VALUES = HOSTILE | st.integers(1, 300).map(_nested) | st.lists(HOSTILE, max_size=3)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        yield from _places(inner, (*path, key))


@st.composite
def spoiled_values(draw: st.DrawFn, document: Any) -> bytes:
    """The document with one or two values replaced, added or taken away."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(document))
        if not places:
            break
        path = draw(st.sampled_from(places))
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        action = draw(st.sampled_from(("replace", "remove", "add", "repeat")))
        if action == "remove":
            del parent[path[-1]]
        elif action == "replace":
            parent[path[-1]] = copy.deepcopy(draw(VALUES))
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(("unknown\n", "kind", "params", CODE)))] = copy.deepcopy(
                draw(VALUES)
            )
        else:
            parent.extend([parent[path[-1]]] * (1000 if action == "repeat" else 1))
    return json.dumps(document).encode()


@st.composite
def spoiled_bytes(draw: st.DrawFn, document: bytes) -> bytes:
    """The document with some bytes changed, lost or added, or cut short."""
    data = bytearray(document)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        action = draw(st.sampled_from(("change", "lose", "add", "cut")))
        if action == "cut":
            del data[at:]
        elif action == "lose":
            del data[at : at + draw(st.integers(1, 9))]
        else:
            data[at : at + (action == "change")] = draw(st.binary(min_size=1, max_size=4))
    return bytes(data)
