"""The views for a terminal, as renderables of rich."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from interpd_attribution.views.colours import DARK_FROM, Scale, is_drawn, over_white, scale
from interpd_attribution.views.highlights import explained, scales
from interpd_attribution.views.labels import labels, title
from interpd_attribution.views.look import Look
from interpd_attribution.views.panes import Pane, sheet_scale, sheets

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

GREEN, BROWN = (0, 109, 44), (140, 81, 10)
NUMBER_WIDTH = 6
FRAME = 3
"""What the lines and blanks of a column take; the table takes one more."""


def heatmap(attribution: "Attribution", look: Look, width: int) -> Group:
    """A table for each side, cut into several where it is wider than ``width`` characters."""
    used = scale((attribution.source_attributions, attribution.target_attributions), look.min_val, look.max_val)
    tables: list[Table] = []
    if attribution.source_attributions is not None:
        tables += _tables(attribution, look, used, "source", width)
    if attribution.target_attributions is not None or attribution.source_attributions is None:
        tables += _tables(attribution, look, used, "target", width)
    return Group(*tables)


def panes(attribution: "Attribution", look: Look) -> Group:
    """One block of coloured cells for each entry of the further axes."""
    drawn = list(sheets(attribution, look))
    used = sheet_scale(drawn, look)
    parts: list[Text | Padding] = [
        Text(f"{title(attribution)}: {used.low:.4g} (blue) to {used.high:.4g} (red)", "bold")
    ]
    for sheet in drawn:
        parts.append(Text(f"{sheet.side.capitalize()} attribution  {sheet.note}".rstrip(), "bold"))
        parts += [Padding(_block(pane, sheet.inputs, used), (0, 0, 1, 2)) for row in sheet.rows for pane in row]
    return Group(*parts)


def highlights(attribution: "Attribution", look: Look) -> Group:
    """Each generated token, and its inputs below it."""
    used, of_steps = scales(attribution, look)
    parts: list[Text | Padding] = [
        Text(f"{title(attribution)}: {used.low:.4g} (blue) to {used.high:.4g} (red)", "bold")
    ]
    for item in explained(attribution, look):
        head = Text("→ ").append(item.label, _style(item.step_score, of_steps, GREEN, BROWN) or Style(bold=True))
        if item.step_score is not None:
            head.append(f"  {look.step_score_highlight} {item.step_score:.4g}", "dim")
        parts.append(head)
        for side, texts, scores in item.sides:
            line = Text(f"{side}: ", "dim")
            for number, (text, score) in enumerate(zip(texts, scores.tolist(), strict=True)):
                line.append(text, _style(score, used) or Style.null())
                line.append("\n" if look.wraps(text.strip("▁Ġ␣ "), number) else " ")
            parts.append(Padding(line, (0, 0, 0, 2)))
    return Group(*parts)


def _tables(attribution: "Attribution", look: Look, used: Scale, side: str, width: int) -> Iterator[Table]:
    array = getattr(attribution, f"{side}_attributions")
    rows = labels(getattr(attribution, side), look.replace_char) if array is not None else []
    columns = labels(attribution.generated, look.replace_char)
    with_steps = side == "target" or attribution.target_attributions is None
    steps = attribution.step_scores if with_steps else {}
    heads = [*(f"{number} {row}" for number, row in enumerate(rows)), *steps]
    left = max(map(cell_len, heads), default=0) + FRAME
    for start, stop in _cuts([max(cell_len(text), NUMBER_WIDTH) + FRAME for text in columns], width - left - 1):
        table = _empty(attribution, columns[start:stop], start, f"{side.capitalize()} attribution {used.unit}".rstrip())
        for number, row in enumerate(rows):
            cells = [_cell(value, used) for value in array[number, start:stop].tolist()]
            table.add_row(_head(number, row), *cells, end_section=number == len(rows) - 1)
        for name, values in steps.items():
            of_step = scale((values,))
            cells = [Text(of_step.written(value)) for value in values[start:stop].tolist()]
            table.add_row(Text(f"{name} {of_step.unit}".rstrip(), "bold"), *cells)
        yield table


def _empty(attribution: "Attribution", columns: Sequence[str], start: int, name: str) -> Table:
    first = attribution.attr_pos_start + start
    heads = [
        Column(Text(f"{number}\n{text}"), justify="center", no_wrap=True) for number, text in enumerate(columns, first)
    ]
    caption = "→ generated tokens, ↓ inputs"
    heading = f"{title(attribution)}: {name}"
    return Table(
        Column("", justify="right", no_wrap=True), *heads, title=Text(heading), caption=caption, box=box.SIMPLE_HEAD
    )


def _cuts(widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Ranges of columns that fit beside one another; each holds one at least."""
    cuts, start, taken = [], 0, 0
    for number, width in enumerate(widths):
        if number > start and taken + width > room:
            cuts.append((start, number))
            start, taken = number, 0
        taken += width
    return [*cuts, (start, len(widths))]


def _head(number: int, row: str) -> Text:
    return Text(f"{number} ", "dim").append(row, "bold not dim")


def _cell(score: float, used: Scale) -> Text:
    return Text(used.written(score), _style(score, used) or Style.null())


def _block(pane: Pane, rows: Sequence[str], used: Scale) -> Text:
    left = max(map(cell_len, rows), default=0)
    text = Text(f"{pane.name}\n", "dim")
    for row, values in zip(rows, pane.scores.tolist(), strict=True):
        text.append(" " * (left - cell_len(row)) + row + " ", "not dim")
        for score in values:
            text.append("··" if np.isnan(score) else "  ", _style(score, used) or "dim")
        text.append("\n")
    text.rstrip()
    return text


def _style(
    score: float | None, used: Scale | None, positive: tuple[int, int, int] | None = None, negative: object = None
) -> Style | None:
    """The colour of a score as a background; ``None`` where it has none."""
    if score is None or used is None or not is_drawn(strength := used.strength(score)):
        return None
    red, green, blue = over_white(strength) if positive is None else over_white(strength, positive, negative)
    text = "white" if abs(strength) >= DARK_FROM else "black"
    return Style.parse(f"{text} on rgb({red},{green},{blue})")
