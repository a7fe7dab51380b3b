"""A drawing of a network as geometry: boxes for layers, tags for parameters, and how far gradients flow back."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from frostproof.spec.case import Case, Positions
from frostproof.spec.layers import TiedLinear

WIDTH, LEFT, RIGHT = 400, 8, 44
"""Of the drawing, and the margins of its boxes; gradients flow in the right one."""

LINE, GAP, LETTER = 22, 20, 7.3
"""Height of a line of text, distance of boxes, width of a letter."""


class Focus(NamedTuple):
    """Where a violation shows: the number of the event, None where that is not known, and the positions of the parameters."""

    event: int | None = None
    parameters: Positions = ()


class Tag(NamedTuple):
    """A parameter. `named`: the violation names it."""

    name: str
    title: str
    x: float
    y: float
    width: float
    frozen: bool
    named: bool


class Box(NamedTuple):
    """A layer. `flows`: whether its output requires grad; `path`: whether it lies between the loss and a named parameter."""

    path: str
    call: str
    y: int
    height: int
    frozen: bool
    named: bool
    flows: bool
    on_path: bool
    tags: tuple[Tag, ...]


class Drawing(NamedTuple):
    """Layers from the samples down to the loss, as approach A sees them at one event; `words` says the same."""

    width: int
    height: int
    start: int
    right: int
    box_width: int
    loss: int
    boxes: tuple[Box, ...]
    words: str


def drawing(case: Case, focus: Focus) -> Drawing:
    """The network of a case, with what is frozen at the event on which the focus lies, or at first."""
    frozen = frozenset(
        case.mask_timeline[focus.event].at_step
        if focus.event is not None
        else case.initially_frozen
    )
    places = case.architecture.places
    flows = case.architecture.graph(frozen, case.differentiable_input)
    named = [
        number for number, place in enumerate(places) if set(place.uses) & set(focus.parameters)
    ]
    top = start = 14 + GAP
    boxes = []
    for number, place in enumerate(places):
        tags = _tags(case, number, top + 2 * LINE - 8, frozen, focus.parameters)
        height = int(max((tag.y + LINE + 4 for tag in tags), default=top + LINE + 10) - top)
        uses = place.uses
        call = str(place.layer.constructor(place.shape))
        if isinstance(place.layer, TiedLinear):
            call += f", weight of {places[place.layer.of].path}"
        boxes.append(
            Box(
                place.path,
                _cut(call, 42 - len(place.path)),
                top,
                height,
                bool(uses) and frozen.issuperset(uses),
                number in named,
                flows[number],
                bool(named) and number >= named[0],
                tags,
            )
        )
        top += height + GAP
    words = f"{len(places)} layers; frozen: {_names(case, frozen)}; named by the violation: {_names(case, focus.parameters)}"
    return Drawing(
        WIDTH, top + 26, start, WIDTH - RIGHT, WIDTH - LEFT - RIGHT, top, tuple(boxes), words
    )


def _tags(
    case: Case, number: int, y: float, frozen: Collection[int], named: Collection[int]
) -> tuple[Tag, ...]:
    """The parameters of one layer, in rows that fit its box."""
    place, tags, x = case.architecture.places[number], [], LEFT + 10.0
    for i in place.uses:
        parameter = case.parameters[i]
        name = _cut(parameter.name.removeprefix(f"{place.path}."), 40)
        width = len(name) * LETTER + 16
        if x + width > WIDTH - RIGHT - 6 and x > LEFT + 10:
            x, y = LEFT + 10.0, y + LINE + 4
        title = (
            f"{parameter.name} {tuple(parameter.shape)}, {'frozen' if i in frozen else 'trainable'}"
        )
        tags.append(Tag(name, title, round(x, 1), y, round(width, 1), i in frozen, i in named))
        x += width + 6
    return tuple(tags)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _names(case: Case, positions: Collection[int]) -> str:
    return ", ".join(case.parameters[i].name for i in sorted(positions)) or "nothing"
