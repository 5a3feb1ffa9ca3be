"""The views for a terminal, as renderables of rich."""

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.console import Group
from rich.padding import Padding
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from interpd_attribution.views.colours import (
    BLUE,
    BROWN,
    DARK_FROM,
    GREEN,
    RED,
    Rgb,
    Scale,
    is_drawn,
    over_white,
    scale,
)
from interpd_attribution.views.highlights import explained, scales
from interpd_attribution.views.labels import input_labels, labels, title
from interpd_attribution.views.layers import Layer, grouped
from interpd_attribution.views.look import Look
from interpd_attribution.views.maps import Map, maps, maps_scale
from interpd_attribution.views.panes import Pane, sheet_scale, sheets

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

FRAME = 3
"""What the lines and blanks of a column take; the table takes one more."""
LONGEST_ROW, LONGEST_COLUMN = 32, 16
"""Longer labels are cut, those of columns where the table has no room for them."""

Part = Text | Padding | Table


def heatmap(attribution: "Attribution", look: Look, width: int) -> Group:
    """A table for each side, cut into several where it is wider than ``width`` characters."""
    used = scale((attribution.source_attributions, attribution.target_attributions), look.min_val, look.max_val)
    parts: list[Part] = [_heading(attribution, used)]
    if attribution.source_attributions is not None:
        parts += _tables(attribution, look, used, "source", width)
    if attribution.target_attributions is not None or attribution.source_attributions is None:
        parts += _tables(attribution, look, used, "target", width)
    return Group(*parts)


def panes(attribution: "Attribution", look: Look, width: int, *, is_plain: bool = False) -> Group:
    """One block of coloured cells for each entry of the further axes, cut into several like a table.

    ``is_plain``: for a terminal without colours, with ninths of the largest score.
    """
    drawn = list(sheets(attribution, look))
    used = sheet_scale(drawn, look)
    parts: list[Part] = [_heading(attribution, used).append("; 9 is the largest" if is_plain else "", "not bold dim")]
    for sheet in drawn:
        parts.append(_side(sheet.side).append(f"  {sheet.note}" if sheet.note else "", "not bold dim"))
        shown = (pane for row in sheet.rows for pane in row)
        blocks = (block for pane in shown for block in _blocks(pane, sheet.inputs, used, width, is_plain=is_plain))
        parts += [Padding(block, (0, 0, 1, 2)) for block in blocks]
    return Group(*parts)


def layer_maps(attribution: "Attribution", look: Look, width: int, *, is_plain: bool = False) -> Group:
    """For each generated token a block of coloured cells, its inputs down and the layers across."""
    drawn = list(maps(attribution, look))
    used = maps_scale(drawn, look)
    across = drawn[0].axis if drawn else ""
    parts: list[Part] = [_heading(attribution, used, across)]
    parts[0].append("; 9 is the largest" if is_plain else "", "not bold dim")
    for side in drawn:
        parts.append(_side(side.side).append(f"  {side.note}" if side.note else "", "not bold dim"))
        for one in side.maps:
            blocks = _map_blocks(one, side.layers, used, width, is_plain=is_plain)
            parts += [Padding(block, (0, 0, 1, 2)) for block in blocks]
    return Group(*parts)


def highlights(attribution: "Attribution", look: Look) -> Group:
    """Each generated token, and its inputs below it."""
    used, of_steps = scales(attribution, look)
    parts: list[Part] = [_heading(attribution, used)]
    for item in explained(attribution, look):
        head = Text("→ ").append(item.label, style_of(item.step_score, of_steps, GREEN, BROWN) or Style(bold=True))
        if item.step_score is not None:
            head.append(f"  {look.step_score_highlight} {item.step_score:.4g}", "dim")
        parts.append(head)
        for side, texts, scores in item.sides:
            line = Text().append(f"{side}: ", "dim")
            for number, (text, score) in enumerate(zip(texts, scores.tolist(), strict=True)):
                line.append(text, style_of(score, used) or Style.null())
                line.append("\n" if look.wraps(text.strip("▁Ġ␣ "), number) else " ")
            parts.append(Padding(line, (0, 0, 0, 2)))
    return Group(*parts)


def _heading(attribution: "Attribution", used: Scale, across: str = "generated tokens") -> Text:
    ends = f"{used.low:.4g} (blue) to {used.high:.4g} (red)" if used.is_signed else f"0 to {used.high:.4g} (red)"
    return Text(title(attribution), "bold").append(f"  {ends}  → {across}, ↓ inputs", "not bold dim")


def _side(side: str) -> Text:
    return Text(f"{side.capitalize()} attribution", "bold")


def _tables(attribution: "Attribution", look: Look, used: Scale, side: str, width: int) -> Iterator[Part]:
    array = getattr(attribution, f"{side}_attributions")
    named = input_labels(attribution, side, look.replace_char) if array is not None else ()
    rows = [_short(text, LONGEST_ROW) for text in named]
    columns = [_short(text, LONGEST_ROW) for text in labels(attribution.generated, look.replace_char)]
    with_steps = side == "target" or attribution.target_attributions is None
    steps = {name: (values, scale((values,))) for name, values in attribution.step_scores.items() if with_steps}
    written = [] if array is None else [[used.written(value) for value in row] for row in array.tolist()]
    below = [[of_step.written(value) for value in values.tolist()] for values, of_step in steps.values()]
    digits = max((len(text) for row in (*written, *below) for text in row), default=0)
    heads = [Text(f"{number} ", "dim").append(row, "bold not dim") for number, row in enumerate(rows)]
    heads += [Text(f"{name} {of_step.unit}".rstrip(), "bold") for name, (_, of_step) in steps.items()]
    left = max((head.cell_len for head in heads), default=0) + FRAME
    yield _side(side).append(f" {used.unit}".rstrip())
    room = width - left - 1
    if sum(max(cell_len(text), digits) + FRAME for text in columns) > room:
        columns = [_short(text, LONGEST_COLUMN) for text in columns]
    for start, stop in _cuts([max(cell_len(text), digits) + FRAME for text in columns], room):
        table = _empty(columns[start:stop], attribution.attr_pos_start + start)
        for number, (head, texts) in enumerate(zip(heads, (*written, *below), strict=True)):
            values = array[number, start:stop].tolist() if number < len(rows) else ()
            styles = [style_of(value, used) for value in values]
            cells = [Text(text.rjust(digits), style or "") for text, style in zip_longest(texts[start:stop], styles)]
            table.add_row(head, *cells, end_section=number == len(rows) - 1)
        yield table


def _empty(columns: Sequence[str], first: int) -> Table:
    heads = [
        Column(Text(f"{number}\n{text}"), justify="center", no_wrap=True) for number, text in enumerate(columns, first)
    ]
    return Table(Column("", justify="right", no_wrap=True), *heads, box=box.SIMPLE_HEAD)


def _cuts(widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Ranges of columns that fit beside one another; each holds one at least."""
    cuts, start, taken = [], 0, 0
    for number, width in enumerate(widths):
        if number > start and taken + width > room:
            cuts.append((start, number))
            start, taken = number, 0
        taken += width
    return [*cuts, (start, len(widths))]


def _short(text: str, longest: int) -> str:
    return text if cell_len(text) <= longest else f"{set_cell_size(text, longest - 1)}…"


def _map_blocks(one: Map, across: Sequence[Layer], used: Scale, width: int, *, is_plain: bool) -> Iterator[Text]:
    names = [_short(row, LONGEST_ROW) for row in one.inputs]
    left = max(map(cell_len, names), default=0)
    groups = grouped(across)
    # so wide that each group's name fits above its layers
    needed = [math.ceil((cell_len(group) + 1) / n) for group, n in groups if len(groups) > 1]
    cell = max(3, *(cell_len(layer.text) + 1 for layer in across), *needed)
    for start, stop in _cuts([cell] * len(across), width - left - FRAME):
        text = Text().append(one.name, "bold")
        if len(groups) > 1:
            text.append("\n" + " " * (left + 1))
            for group, n in grouped(across[start:stop]):
                text.append(" " + set_cell_size(_short(group, n * cell - 1), n * cell - 1), "dim")
        text.append("\n" + " " * (left + 1) + "".join(layer.text.rjust(cell) for layer in across[start:stop]), "dim")
        for name, values in zip(names, one.scores[:, start:stop].tolist(), strict=True):
            text.append("\n" + " " * (left - cell_len(name)) + name + " ")
            for score in values:
                text.append(*_cell(score, used, cell, is_plain=is_plain))
        yield text


def _cell(score: float, used: Scale, width: int, *, is_plain: bool) -> tuple[str, Style | str]:
    none = math.isnan(score)
    ninths = str(round(9 * used.strength(score))) if is_plain and not none else ""
    return ("··" if none else ninths).rjust(width), style_of(score, used) or "dim"


def _blocks(pane: Pane, rows: Sequence[str], used: Scale, width: int, *, is_plain: bool) -> Iterator[Text]:
    names = [_short(row, LONGEST_ROW) for row in rows]
    left = max(map(cell_len, names), default=0)
    cell = 3 if is_plain else 2
    for start, stop in _cuts([cell] * pane.scores.shape[1], width - left - FRAME):
        text = Text().append(pane.name, "dim")
        for name, values in zip(names, pane.scores[:, start:stop].tolist(), strict=True):
            text.append("\n" + " " * (left - cell_len(name)) + name + " ")
            for score in values:
                text.append(*_cell(score, used, cell, is_plain=is_plain))
        yield text


def style_of(score: float | None, used: Scale | None, positive: Rgb = RED, negative: Rgb = BLUE) -> Style | None:
    """The colour of a score as a background; ``None`` where it has none."""
    if score is None or used is None or not is_drawn(strength := used.strength(score)):
        return None
    text = Color.from_rgb(*((255, 255, 255) if abs(strength) >= DARK_FROM else (0, 0, 0)))
    return Style(color=text, bgcolor=Color.from_rgb(*over_white(strength, positive, negative)))
