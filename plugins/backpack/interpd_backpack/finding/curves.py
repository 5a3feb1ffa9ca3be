"""Curves of a bias against a factor, as a picture without a script."""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from interpd_backpack.finding.solving import Numbers

WIDTH, HEIGHT = 520, 220
LEFT, BELOW, ABOVE = 44, 26, 8
COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214", "#35978f", "#6b6b6b", "#c51b7d")
"""Lines take turns with them."""
N_LINES = 40
"""More are not drawn."""

Place = Callable[[float, float], tuple[float, float]]
"""Where a factor and a value are in the picture."""


def curves_html(factors: Numbers, curves: Sequence[tuple[str, Numbers]], marks: Sequence[float] = ()) -> str:
    """Lines of values over factors; ``marks`` puts a dot on each line, at a factor of its own.

    Args:
        factors: Rising, ``[factor]``.
        curves: What each line is called, and its values ``[factor]``.
        marks: One for each line, or none.
    """
    most = max((float(values[np.isfinite(values)].max(initial=1.0)) for _, values in curves), default=1.0)
    shown = [(name, np.minimum(values, most)) for name, values in curves[:N_LINES]]
    top = max((float(values.max()) for _, values in shown), default=1.0)
    low, high = float(factors[0]), float(factors[-1])
    bottom = min(1.0, *(float(values.min()) for _, values in shown))

    def place(factor: float, value: float) -> tuple[float, float]:
        x = LEFT + (factor - low) / ((high - low) or 1) * (WIDTH - LEFT - 8)
        return x, ABOVE + (top - value) / ((top - bottom) or 1) * (HEIGHT - ABOVE - BELOW)

    parts = [_axis(place, (low, high), (bottom, top))]
    for number, (name, values) in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in zip(factors, values, strict=True))
        line = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        parts.append(f"<g><title>{escape(name)}</title>{line}{_mark(place, factors, values, marks, number)}</g>")
    names = " ".join(
        f'<span style="color:{COLOURS[number % len(COLOURS)]}">{escape(name)}</span>'
        for number, (name, _) in enumerate(shown)
    )
    more = f" and {len(curves) - N_LINES} more" if len(curves) > N_LINES else ""
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">{"".join(parts)}</svg>'
    return f'{picture}<p class="note">{names}{more}</p>'


def _axis(place: Place, across: tuple[float, float], up: tuple[float, float]) -> str:
    words = []
    for factor in (across[0], sum(across) / 2, across[1]):
        x, y = place(factor, up[0])
        words.append(_text(x, y + 16, f"{factor:.3g}", "middle"))
    for value in up:
        x, y = place(across[0], value)
        words.append(_text(x - 5, y + 4, f"{value:.3g}", "end"))
    (left, bottom), (right, top) = place(across[0], up[0]), place(across[1], up[1])
    frame = f'<path d="M{left:.1f},{top:.1f}V{bottom:.1f}H{right:.1f}" fill="none" stroke="currentColor" opacity=".4"/>'
    return frame + "".join(words)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" fill="currentColor">{text}</text>'


def _mark(place: Place, factors: Numbers, values: Numbers, marks: Sequence[float], number: int) -> str:
    if not marks:
        return ""
    at = min(range(len(factors)), key=lambda one: abs(factors[one] - marks[number]))
    x, y = place(float(factors[at]), float(values[at]))
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[number % len(COLOURS)]}"/>'
