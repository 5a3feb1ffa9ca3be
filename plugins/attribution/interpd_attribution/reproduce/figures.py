"""Pictures of a report, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

CELL_W, CELL_H, TOP, GAP = 46, 26, 46, 40
LETTER = 7.5
"""What a letter of a label takes."""
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
WARM, COLD = (194, 65, 12), (29, 78, 216)
SIDE, MARGIN = 300, 52


def heatmaps(panels: Mapping[str, np.ndarray], rows: Sequence[str], columns: Sequence[str], below: str) -> str:
    """Tables of numbers beside one another, ``[row column]`` each, coloured by the panel's own largest magnitude.

    Where that is far from one, the title says by what power of ten the numbers are to be multiplied.

    Args:
        panels: By title. NaN is left empty.
        rows: Labels of the rows, at the left of the first panel.
        columns: Labels of the columns.
        below: What the columns are.
    """
    width = len(columns) * CELL_W
    labels = 20 + LETTER * max(map(len, rows))
    parts = [_text(labels - 8, TOP + (i + 0.65) * CELL_H, row, "end") for i, row in enumerate(rows)]
    for number, (title, values) in enumerate(panels.items()):
        left = labels + number * (width + GAP)
        known = np.asarray(values, dtype=float)
        power = _power(known)
        said = f"{title} (×10{str(power).translate(SUPERSCRIPT)})" if power else title
        parts.append(_text(left + width / 2, TOP - 16, said, weight="bold"))
        parts += _cells(known / 10.0**power, left)
        parts += [
            _text(left + (i + 0.5) * CELL_W, TOP + len(rows) * CELL_H + 18, name) for i, name in enumerate(columns)
        ]
        parts.append(_text(left + width / 2, TOP + len(rows) * CELL_H + 38, below))
    return _svg(labels + len(panels) * (width + GAP), TOP + len(rows) * CELL_H + 56, parts)


def scatter(points: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Points of several groups, both axes from 0 to 1; the groups' names are the legend."""
    end = MARGIN + SIDE
    parts = [f'<rect x="{MARGIN}" y="20" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>']
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(MARGIN + tick * SIDE, 20 + SIDE + 18, f"{tick:g}"))
        parts.append(_text(MARGIN - 8, 24 + (1 - tick) * SIDE, f"{tick:g}", "end"))
    parts.append(_text(MARGIN + SIDE / 2, 20 + SIDE + 38, across))
    parts.append(
        f'<text x="16" y="{20 + SIDE / 2}" text-anchor="middle" font-size="13" fill="#222" '
        f'transform="rotate(-90 16 {20 + SIDE / 2})">{escape(up)}</text>'
    )
    for number, (name, group) in enumerate(points.items()):
        colour = f"rgb{(WARM, COLD)[number % 2]}"
        dots = ((MARGIN + x * SIDE, 20 + (1 - y) * SIDE) for x, y in group)
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.7"/>' for x, y in dots]
        parts.append(f'<circle cx="{end + 20}" cy="{36 + 20 * number}" r="4" fill="{colour}"/>')
        parts.append(_text(end + 32, 40 + 20 * number, name, "start"))
    return _svg(end + 220, SIDE + 72, parts)


def _power(values: np.ndarray) -> int:
    """The power of ten whose multiples can be written with two decimals."""
    largest = np.nanmax(np.abs(values))
    return 0 if not largest or 0.1 <= largest < 1000 else math.floor(math.log10(largest))


def _cells(values: np.ndarray, left: float) -> list[str]:
    largest = np.nanmax(np.abs(values)) or 1.0
    parts = []
    for (row, column), value in np.ndenumerate(values):
        x, y = left + column * CELL_W, TOP + row * CELL_H
        if np.isnan(value):
            continue
        share = min(1.0, abs(value) / largest)
        mixed = tuple(round(255 + share * (c - 255)) for c in (WARM if value > 0 else COLD))
        parts.append(f'<rect x="{x}" y="{y}" width="{CELL_W}" height="{CELL_H}" fill="rgb{mixed}" stroke="white"/>')
        colour = "white" if share > 0.6 else "#222"
        # a rounded zero has no sign
        parts.append(_text(x + CELL_W / 2, y + 0.65 * CELL_H, f"{value:z.2f}", size=11, colour=colour))
    return parts


def _text(
    x: float,
    y: float,
    words: str,
    anchor: str = "middle",
    *,
    size: int = 13,
    weight: str = "normal",
    colour: str = "#222",
) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>', *parts, "</svg>"]) + "\n"
