"""The geometry of a network's drawing: layers, parameters, and how far gradients flow back."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from frostproof.spec.case import Case, Positions
from frostproof.spec.layers import TiedLinear

WIDTH, LEFT, RIGHT = 400, 8, 44
"""The width of the drawing, and its margins. The arrows of gradients are in the right margin."""

LINE, GAP, LETTER = 22, 20, 7.3
"""The height of a line of text, the distance of boxes, and the width of a letter."""


class ViolationPlace(NamedTuple):
    """The event and the parameters of a violation."""

    event: int | None = None
    """The number of the event, if it is known."""
    parameters: Positions = ()


class ParameterTag(NamedTuple):
    """A parameter in the drawing. `named` says whether the violation names it."""

    name: str
    title: str
    x: float
    y: float
    width: float
    frozen: bool
    named: bool


class LayerBox(NamedTuple):
    """A layer in the drawing."""

    path: str
    call: str
    y: int
    height: int
    frozen: bool
    named: bool
    flows: bool
    """Whether its output requires grad."""
    on_path: bool
    """Whether it lies between the loss and a named parameter."""
    tags: tuple[ParameterTag, ...]


class NetworkDrawing(NamedTuple):
    """The layers from the samples down to the loss, under approach A at one event.

    `words` is the text for readers who cannot see the drawing.
    """

    width: int
    height: int
    start: int
    right: int
    box_width: int
    loss: int
    boxes: tuple[LayerBox, ...]
    words: str


def draw_network(case: Case, place: ViolationPlace) -> NetworkDrawing:
    """The network of a case, with its frozen parameters at the event of the violation.

    Without a known event, it shows those that are frozen at the start.
    """
    frozen = frozenset(
        case.mask_timeline[place.event].at_step
        if place.event is not None
        else case.initially_frozen
    )
    layers = case.architecture.places
    flows = case.architecture.graph(frozen, case.differentiable_input)
    named = [i for i, layer in enumerate(layers) if set(layer.uses) & set(place.parameters)]
    top = start = 14 + GAP
    boxes = []
    for number, layer in enumerate(layers):
        tags = _tags(case, number, top + 2 * LINE - 8, frozen, place.parameters)
        height = int(max((tag.y + LINE + 4 for tag in tags), default=top + LINE + 10) - top)
        call = str(layer.layer.constructor(layer.shape))
        if isinstance(layer.layer, TiedLinear):
            call += f", weight of {layers[layer.layer.of].path}"
        box = LayerBox(
            path=layer.path,
            call=_cut(call, 42 - len(layer.path)),
            y=top,
            height=height,
            frozen=bool(layer.uses) and frozen.issuperset(layer.uses),
            named=number in named,
            flows=flows[number],
            on_path=bool(named) and number >= named[0],
            tags=tags,
        )
        boxes.append(box)
        top += height + GAP
    words = (
        f"{len(layers)} layers; frozen: {_names(case, frozen)}; "
        f"named by the violation: {_names(case, place.parameters)}"
    )
    right, width = WIDTH - RIGHT, WIDTH - LEFT - RIGHT
    return NetworkDrawing(WIDTH, top + 26, start, right, width, top, tuple(boxes), words)


def _tags(
    case: Case, number: int, y: float, frozen: Collection[int], named: Collection[int]
) -> tuple[ParameterTag, ...]:
    """The parameters of one layer, in rows that fit its box."""
    place, tags, x = case.architecture.places[number], [], LEFT + 10.0
    for i in place.uses:
        parameter = case.parameters[i]
        name = _cut(parameter.name.removeprefix(f"{place.path}."), 40)
        width = len(name) * LETTER + 16
        if x + width > WIDTH - RIGHT - 6 and x > LEFT + 10:
            x, y = LEFT + 10.0, y + LINE + 4
        kind = "frozen" if i in frozen else "trainable"
        title = f"{parameter.name} {tuple(parameter.shape)}, {kind}"
        box = (round(x, 1), y, round(width, 1))
        tags.append(ParameterTag(name, title, *box, i in frozen, i in named))
        x += width + 6
    return tuple(tags)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _names(case: Case, positions: Collection[int]) -> str:
    return ", ".join(case.parameters[i].name for i in sorted(positions)) or "nothing"
