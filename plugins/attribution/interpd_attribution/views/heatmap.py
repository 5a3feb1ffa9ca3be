"""A result as an HTML table: inputs down, generated tokens across, a colour for each score."""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from interpd_attribution.views.colours import DARK_FROM, Scale, is_drawn, scale
from interpd_attribution.views.labels import input_labels, labels, title
from interpd_attribution.views.look import Look
from interpd_attribution.views.picture import picture_html

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

MOST_CELLS = 100_000
"""A larger table would take a browser minutes."""
WELL_LABELLED = 10_000
"""Cells of a table up to which each says its tokens when the pointer is over it, and not its score only."""
UPRIGHT_FROM = 7
"""Columns with a label of more characters are labelled upwards, where there are more of them than ``FEW``."""
FEW = 8
MAY_BE_CUT = 12
"""Longer labels are cut where there is no room."""


def heatmap_html(attribution: "Attribution", look: Look, heading: str = "") -> str:
    """A result without further axes; step scores below."""
    arrays = (attribution.source_attributions, attribution.target_attributions)
    shared = scale(arrays, look.min_val, look.max_val)
    parts = [f"<h3>{escape(heading or title(attribution))}</h3>"]
    if attribution.has_scores:
        parts.append(legend_html(shared))
    if attribution.source_attributions is not None:
        parts.append(_side(attribution, look, shared, "source"))
    if attribution.target_attributions is not None or attribution.source_attributions is None:
        parts.append(_side(attribution, look, shared, "target"))
    return f'<div class="ia">{"".join(parts)}</div>'


def legend_html(used: Scale, *, is_written: bool = True) -> str:
    """The ends of the colours, and the unit of numbers where these are written."""
    ends = [f"{end:.4g}" for end in (used.low, used.high)]
    unit = f"<span>numbers {used.unit}</span>" if used.unit and is_written else ""
    middle = '<span class="bar signed"></span>' if used.is_signed else '<span class="bar plain"></span>'
    return f'<div class="legend"><span>{ends[0]}</span>{middle}<span>{ends[1]}</span>{unit}</div>'


def _side(attribution: "Attribution", look: Look, shared: Scale, side: str) -> str:
    array = getattr(attribution, f"{side}_attributions")
    columns = labels(attribution.generated, look.replace_char)
    name = f"{side.capitalize()} attribution" if array is not None else "Step scores"
    parts = [f"<h4>{name} <small>→ generated tokens, ↓ inputs</small></h4>"]
    body = _step_scores(attribution) if side == "target" or attribution.target_attributions is None else []
    if array is not None and array.size > MOST_CELLS:
        parts.append(_picture(array, shared))
    elif array is not None:
        rows = input_labels(attribution, side, look.replace_char)
        n_before = attribution.attr_pos_start if side == "target" else len(rows)
        body = [*_rows(array, rows, columns, shared, n_before), *body]
    if body:
        table = f"<table>{head_html(columns, attribution.attr_pos_start)}{''.join(body)}</table>"
        parts.append(f'<div class="scroll">{table}</div>')
    return "".join(parts)


def _picture(array: np.ndarray, shared: Scale) -> str:
    said = f"{array.shape[0]} inputs and {array.shape[1]} generated tokens are drawn without numbers"
    advice = "[a:b], or aggregating words, segments or spans, gives a table that can be read"
    return f'<p class="note">{said}; {advice}</p><div class="wide">{picture_html(array, shared)}</div>'


def head_html(columns: Sequence[str], first: int) -> str:
    """The row of column labels, numbered from ``first``."""
    is_upright = len(columns) > FEW and max(map(len, columns), default=0) >= UPRIGHT_FROM
    cells = "".join(f"<th>{named_html(text)}\n<i>{number}</i></th>" for number, text in enumerate(columns, first))
    return f"<thead{' class=up' if is_upright else ''}><tr><th></th>{cells}</tr></thead>"


def named_html(text: str) -> str:
    """A label; one that may be cut is whole where the pointer is over it."""
    hover = f' title="{escape(text)}"' if len(text) > MAY_BE_CUT else ""
    return f"<bdi{hover}>{escape(text)}</bdi>"


def _rows(
    array: np.ndarray, rows: Sequence[str], columns: Sequence[str], shared: Scale, n_before: int
) -> Iterator[str]:
    is_labelled = array.size <= WELL_LABELLED
    for number, (row, values) in enumerate(zip(rows, array.tolist(), strict=True)):
        where: Iterable[str] = (f"{row} → {column}: " for column in columns) if is_labelled else repeat("")
        cells = "".join(cell_html(value, shared, said) for value, said in zip(values, where, strict=False))
        mark = ' class="cut"' if number == n_before else ""
        yield f"<tr{mark}><th><i>{number}</i> {named_html(row)}</th>{cells}</tr>"


def cell_html(score: float, used: Scale, where: str = "", *, kinds: str = "pn", is_written: bool = True) -> str:
    """A cell with its colour, the score rounded, and exactly where the pointer is over it."""
    if math.isnan(score):
        return '<td class="x"></td>'
    strength = used.strength(score)
    text = used.written(score) if is_written else ""
    hover = f' title="{escape(where)}{exact(score)}"'
    return f"<td{paint(strength, kinds)}{hover}>{text}</td>"


def paint(strength: float, kinds: str = "pn") -> str:
    """The attributes of a coloured element. ``kinds``: the classes of positive and of negative scores."""
    if not is_drawn(strength):
        return ""
    classes = kinds[0 if strength >= 0 else 1] + (" s" if abs(strength) >= DARK_FROM else "")
    return f' class="{classes}" style="--a:{abs(strength):.3g}"'


def exact(score: float) -> str:
    """A float32 with the digits that tell it from its neighbours."""
    return str(np.float32(score))


def _step_scores(attribution: "Attribution") -> list[str]:
    rows = []
    for number, (name, values) in enumerate(attribution.step_scores.items()):
        used = scale((values,))
        unit = f" {used.unit}" if used.unit else ""
        cells = "".join(cell_html(value, used, f"{name}: ", kinds="go") for value in values.tolist())
        mark = ' class="cut"' if number == 0 else ""
        rows.append(f"<tr{mark}><th>{escape(name)}{unit}</th>{cells}</tr>")
    return rows
