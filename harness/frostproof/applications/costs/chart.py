"""What freezing saves, as a drawing: an SVG that needs nothing else, and reads in light and dark."""

from __future__ import annotations

from html import escape

from frostproof.applications.costs.closed_form import backward_a, backward_b

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 260, 46, 30, 44
SOFT = 'fill="#76838f"'
"""Colors are attributes and no style sheet, which the policy of a page may forbid."""


def savings_chart(layers: int) -> str:
    """Matrix products in the backward pass of so many equal Linear layers, of which one alone trains, against which one that is:
    A's as bars, B's as their outline. The figures are the closed form, which the tests count again."""
    most = backward_b(layers)
    step = (WIDTH - LEFT) / layers
    scale = (HEIGHT - TOP - BOTTOM) / most
    floor = HEIGHT - BOTTOM
    parts = []
    for layer in range(layers):
        mine = backward_a(layers, (layer,))
        x, width = LEFT + step * (layer + 0.18), step * 0.64
        middle = x + width / 2
        parts += [
            f'<rect fill="none" stroke="#8593a1" stroke-dasharray="3 3" x="{x:.1f}" y="{floor - most * scale:.1f}" '
            f'width="{width:.1f}" height="{most * scale:.1f}" rx="3"/>',
            f'<rect fill="#6db3e0" x="{x:.1f}" y="{floor - mine * scale:.1f}" width="{width:.1f}" height="{mine * scale:.1f}" rx="3">'
            f"<title>layer {layer} alone trains: {mine} in A, {most} in B</title></rect>",
            f'<text x="{middle:.1f}" y="{floor - mine * scale - 5:.1f}" text-anchor="middle">{mine}</text>',
            f'<text {SOFT} x="{middle:.1f}" y="{floor + 16}" text-anchor="middle">{layer}</text>',
        ]
    words = f"A takes {backward_a(layers, (layers - 1,))} matrix products where the last of {layers} layers alone trains"
    words += f", {backward_a(layers, (0,))} where the first does; B always takes {most}."
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" '
        'fill="currentColor">'
        f"<title>What freezing saves in the backward pass</title><desc>{escape(words)}</desc>"
        f'<text {SOFT} x="{LEFT}" y="16">B, whatever is frozen: {most}</text>'
        f'<text {SOFT} x="{LEFT - 8}" y="{floor}" text-anchor="end">0</text>'
        f'<text {SOFT} x="{LEFT - 8}" y="{floor - most * scale + 4:.1f}" text-anchor="end">{most}</text>'
        f'<path stroke="#8593a1" d="M{LEFT} {floor}H{WIDTH}"/>{"".join(parts)}'
        f'<text {SOFT} x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">the one layer that trains</text></svg>'
    )
