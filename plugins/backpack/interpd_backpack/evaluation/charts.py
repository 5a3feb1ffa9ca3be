"""Charts as SVG: bars in groups, in the colours of the page."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from interpd_backpack.evaluation.sections import Chart, written

BAR, GAP, ROW = 14, 8, 320
"""Height of a bar, what is between groups, and the width of the longest bar."""
LETTER = 6.6
"""What a letter of a label takes."""
LONGEST_LABEL = 44
TOP, EDGE = 30, 60
COLOURS = ("#b2182b", "#2166ac", "#7b6a1e", "#4d7c4a", "#6b4c8a", "#8a5a3c")
"""Of the series; more of them begin again."""


def svg(chart: Chart) -> str:
    """A chart of horizontal bars: a group for each label, a bar for each series; negative ones grow to the left."""
    names = tuple(chart.series)
    values = [value for series in chart.series.values() for value in series if math.isfinite(value)]
    marks = [*values, *([] if chart.line is None else [chart.line]), 0.0]
    low, high = min(marks), max(marks)
    if high == low:
        high = low + 1.0
    left = 10 + LETTER * max([min(len(label), LONGEST_LABEL) for label in chart.labels] or [0])
    group = BAR * len(names) + GAP
    below = TOP + group * len(chart.labels)
    width = left + ROW + EDGE + 20
    parts = [_text(10, 18, chart.title, weight="600")]

    def across(value: float) -> float:
        return left + 10 + ROW * (value - low) / (high - low)

    for number, label in enumerate(chart.labels):
        top = TOP + number * group
        parts.append(_text(left, top + (group - GAP) / 2 + 4, _short(label), "end"))
        parts += _bars(chart, number, top, across)
    if chart.line is not None:
        at = across(chart.line)
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 4}" y2="{below}" class="axis" stroke-dasharray="3"/>'
        )
    parts.append(f'<line x1="{across(0):.1f}" x2="{across(0):.1f}" y1="{TOP - 4}" y2="{below}" class="axis"/>')
    if len(names) > 1:
        parts += _legend(names, left, below + 16)
        below += 24
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {below + 8:.0f}" width="{width:.0f}"'
    label = f' role="img" aria-label="{escape(chart.title)}"'
    return "".join([head, label, ' font-family="system-ui,sans-serif" font-size="12">', *parts, "</svg>"])


def _bars(chart: Chart, number: int, top: float, across: Callable[[float], float]) -> Iterator[str]:
    for place, (name, series) in enumerate(chart.series.items()):
        value = float(series[number])
        if not math.isfinite(value):
            continue
        start, end = sorted((across(0.0), across(value)))
        y, colour = top + place * BAR, COLOURS[place % len(COLOURS)]
        said = f"<title>{escape(chart.labels[number])}, {escape(name)}: {value:.6g}</title>"
        yield (
            f'<rect x="{start:.1f}" y="{y:.1f}" width="{max(end - start, 0.5):.1f}" height="{BAR - 2}" '
            f'fill="{colour}" fill-opacity=".8">{said}</rect>'
        )
        # beside the bar, on the side on which nothing follows
        yield _text(end + 4, y + BAR - 4, written(value), small=True)


def _legend(names: Sequence[str], left: float, y: float) -> Iterator[str]:
    x = left + 10.0
    for place, name in enumerate(names):
        yield f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" fill="{COLOURS[place % len(COLOURS)]}"/>'
        yield _text(x + 14, y, name)
        x += 26 + LETTER * len(name)


def _text(x: float, y: float, words: str, anchor: str = "start", *, weight: str = "400", small: bool = False) -> str:
    size = ' font-size="10"' if small else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="currentColor"{size}>'
        f"{escape(words)}</text>"
    )


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
