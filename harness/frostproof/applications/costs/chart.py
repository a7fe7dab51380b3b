"""What freezing saves, as an SVG drawing that needs no other file and fits light and dark pages."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 260, 46, 30, 44
FLOOR = HEIGHT - BOTTOM
LINE = 'stroke="#8593a1"'
SOFT = 'fill="#76838f"'
"""Colors are attributes, because the policy of a page may forbid style sheets."""


def backward_products_a(layers: int, trainable: Collection[int]) -> int:
    """The matrix products of A's backward pass through equal `nn.Linear(d, d)` layers.

    It computes a weight gradient for each trainable layer, and an input gradient for each layer
    above the lowest of them. Layers count from 0, and at least one must be trainable.
    """
    return len(trainable) + layers - 1 - min(trainable)


def backward_products_b(layers: int) -> int:
    """The same for B: all weight gradients, and all input gradients but that of the batch."""
    return 2 * layers - 1


def savings_chart(layers: int) -> str:
    """Matrix products of a backward pass in which only one of `layers` equal layers trains.

    There is one bar for each choice of that layer: A is the bar, B its outline.
    """
    most = backward_products_b(layers)
    scale = (FLOOR - TOP) / most
    last, first = (backward_products_a(layers, (layer,)) for layer in (layers - 1, 0))
    words = (
        f"A takes {last} matrix products if only the last of {layers} layers trains, and {first} "
        f"if only the first does; B always takes {most}."
    )
    axis = (
        f'<text {SOFT} x="{LEFT}" y="16">B, whatever is frozen: {most}</text>'
        f'<text {SOFT} x="{LEFT - 8}" y="{FLOOR}" text-anchor="end">0</text>'
        f'<text {SOFT} x="{LEFT - 8}" y="{TOP + 4}" text-anchor="end">{most}</text>'
        f'<path {LINE} d="M{LEFT} {FLOOR}H{WIDTH}"/>'
    )
    middle, bottom = (LEFT + WIDTH) / 2, HEIGHT - 8
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg" '
        'font-family="sans-serif" font-size="12" fill="currentColor">'
        f"<title>What freezing saves in the backward pass</title><desc>{escape(words)}</desc>"
        f"{axis}{''.join(_bars(layers, scale))}"
        f'<text {SOFT} x="{middle:.0f}" y="{bottom}" text-anchor="middle">'
        "the only trainable layer</text></svg>"
    )


def _bars(layers: int, scale: float) -> Iterator[str]:
    most, step = backward_products_b(layers), (WIDTH - LEFT) / layers
    for layer in range(layers):
        mine = backward_products_a(layers, (layer,))
        x, width = LEFT + step * (layer + 0.18), step * 0.64
        top, middle = FLOOR - mine * scale, x + width / 2
        place = f'x="{x:.1f}" width="{width:.1f}" rx="3"'
        yield (
            f'<rect fill="none" {LINE} stroke-dasharray="3 3" {place} y="{TOP}" '
            f'height="{FLOOR - TOP}"/>'
            f'<rect fill="#6db3e0" {place} y="{top:.1f}" height="{mine * scale:.1f}">'
            f"<title>only layer {layer} trains: {mine} in A, {most} in B</title></rect>"
            f'<text x="{middle:.1f}" y="{top - 5:.1f}" text-anchor="middle">{mine}</text>'
            f'<text {SOFT} x="{middle:.1f}" y="{FLOOR + 16}" text-anchor="middle">{layer}</text>'
        )
