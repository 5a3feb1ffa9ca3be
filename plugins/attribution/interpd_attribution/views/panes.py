"""A result that has layers, heads or dimensions: a small picture for each, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.views.colours import Scale, scale
from interpd_attribution.views.heatmap import cell_html, head_html, legend_html, named_html
from interpd_attribution.views.labels import input_labels, labels, title
from interpd_attribution.views.look import Look

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

MOST_CELLS = 100_000


@dataclass(frozen=True)
class Pane:
    """One small picture: a name (``layer 3, head 1``) and its scores ``[input generated]``."""

    name: str
    scores: np.ndarray


@dataclass(frozen=True)
class Sheet:
    """All panes of one side, in rows."""

    side: str
    rows: tuple[tuple[Pane, ...], ...]
    inputs: tuple[str, ...]
    note: str
    """What of it is not shown."""


def sheets(attribution: "Attribution", look: Look) -> Iterator[Sheet]:
    """The panes of the source and of the target.

    Raises:
        CallerError: More than two axes beside the tokens, an axis that is not there, or more cells than fit a page.
    """
    if not attribution.dims:
        raise CallerError("this result has no axes beside its tokens; show() draws it")
    for side in ("source", "target"):
        array = getattr(attribution, f"{side}_attributions")
        if array is not None:
            yield _sheet(attribution, look, side, array)


def panes_html(attribution: "Attribution", look: Look, heading: str = "") -> str:
    """The panes as tables; the exact score is where the pointer is."""
    drawn = list(sheets(attribution, look))
    used = sheet_scale(drawn, look)
    columns = labels(attribution.generated, look.replace_char)
    parts = [f"<h3>{escape(heading or title(attribution))}</h3>", legend_html(used, is_written=False)]
    for sheet in drawn:
        parts.append(f"<h4>{sheet.side.capitalize()} attribution <small>→ generated tokens, ↓ inputs</small></h4>")
        parts.append(f'<p class="note">{escape(sheet.note)}</p>' if sheet.note else "")
        kind = "panes" if len(sheet.rows) == 1 else "row"
        for row in sheet.rows:
            figures = "".join(_figure(pane, sheet.inputs, columns, used, attribution.attr_pos_start) for pane in row)
            parts.append(f'<div class="{kind}">{figures}</div>')
    return f'<div class="ia"><div class="wide">{"".join(parts)}</div></div>'


def sheet_scale(drawn: Sequence[Sheet], look: Look) -> Scale:
    """One scale for all panes, so that their colours compare."""
    return scale((pane.scores for sheet in drawn for row in sheet.rows for pane in row), look.min_val, look.max_val)


def _figure(pane: Pane, rows: Sequence[str], columns: Sequence[str], used: Scale, first: int) -> str:
    body = []
    for row, values in zip(rows, pane.scores.tolist(), strict=True):
        cells = "".join(
            cell_html(value, used, f"{pane.name}, {row} → {column}: ", is_written=False)
            for column, value in zip(columns, values, strict=True)
        )
        body.append(f"<tr><th>{named_html(row)}</th>{cells}</tr>")
    head = head_html(columns, first).replace("<thead>", "<thead class=up>")
    return f"<figure><figcaption>{escape(pane.name)}</figcaption><table>{head}{''.join(body)}</table></figure>"


def _sheet(attribution: "Attribution", look: Look, side: str, array: np.ndarray) -> Sheet:
    dims = attribution.dims
    across = len(dims) - 1 if look.show_dim is None else _dim(look.show_dim, dims)
    entries, note = entries_of(array, dims, look, look.n_shown)
    inputs = tuple(input_labels(attribution, side, look.replace_char))
    return Sheet(side, _grid(array, dims, entries, across), inputs, note)


def entries_of(array: np.ndarray, dims: tuple[str, ...], look: Look, n_most: int) -> tuple[list[range], str]:
    """The entries of each axis beside the tokens that are drawn, ``n_most`` at most, and what of them is not."""
    notes, entries = [], [range(size) for size in array.shape[2:]]
    for key, (start, stop) in look.slice_dims.items():
        number = _dim(key, dims)
        if not 0 <= start < stop <= array.shape[2 + number]:
            raise CallerError(
                f"slice_dims has {key!r}: ({start}, {stop}), but {dims[number]} has {array.shape[2 + number]} entries"
            )
        entries[number] = range(start, stop)
    across = None if look.show_dim is None else _dim(look.show_dim, dims)
    if across is not None and len(entries[across]) > n_most:
        raise CallerError(
            f"{dims[across]} has {len(entries[across])} entries, more than max_show_size ({n_most}); "
            "raise it, or cut the axis with slice_dims"
        )
    for number, dim in enumerate(dims):
        if len(entries[number]) > n_most:
            notes.append(f"{dim} {entries[number][0]} to {entries[number][n_most - 1]} of {array.shape[2 + number]}")
            entries[number] = entries[number][:n_most]
    return entries, f"{', '.join(notes)}; slice_dims and max_show_size show others" if notes else ""


def _grid(
    array: np.ndarray, dims: tuple[str, ...], entries: Sequence[range], across: int
) -> tuple[tuple[Pane, ...], ...]:
    down = [number for number in range(len(dims)) if number != across and len(entries[number]) > 1]
    if len(down) > 1:
        raise CallerError(
            f"two of the axes {', '.join(dims)} can be shown; cut the others to one entry with slice_dims, or aggregate"
        )
    n_cells = array.shape[0] * array.shape[1] * int(np.prod([len(item) for item in entries]))
    if n_cells > MOST_CELLS:
        raise CallerError(f"{n_cells} cells are more than {MOST_CELLS}; slice_dims or max_show_size show fewer")

    def pane(indices: tuple[int, ...]) -> Pane:
        name = ", ".join(f"{dim} {index}" for dim, index in zip(dims, indices, strict=True))
        return Pane(name, array[(slice(None), slice(None), *indices)])

    rows = []
    for first in entries[down[0]] if down else (None,):
        chosen = [
            (first,) if number in down else entry if number == across else entry[:1]
            for number, entry in enumerate(entries)
        ]
        rows.append(tuple(pane(indices) for indices in product(*chosen)))
    return tuple(rows)


def _dim(key: str | int, dims: tuple[str, ...]) -> int:
    number = dims.index(key) if key in dims else key - 2 if isinstance(key, int) else -1
    if not 0 <= number < len(dims):
        there = ", ".join(f"{dim!r} ({number})" for number, dim in enumerate(dims, 2))
        raise CallerError(f"no axis {key!r} beside the tokens; there are: {there}")
    return number
