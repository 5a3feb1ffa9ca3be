"""Results as HTML for notebooks: a table, with small matrices as heat maps. No script, no style sheet."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from interpd_client.descriptions import described, summary

if TYPE_CHECKING:
    from interpd_client.result import Result

HEAT_CELLS = 4096
"""Larger matrices and vectors are described, not drawn."""
MOST_PICTURES = 16
"""Of one saved list or dict."""
WIDEST_PX = 768
"""Of a picture without labels; its cells shrink to fit, to one pixel at the least."""
SOURCE_AXIS = "src_pos"
POSITION_AXES = ("pos", "query_pos", "key_pos", SOURCE_AXIS)

_HATCHED = "repeating-linear-gradient(45deg,#999,#999 2px,#ddd 2px,#ddd 4px)"
_UPRIGHT = "writing-mode:vertical-rl;"
_LABEL = "font:10px monospace;white-space:pre;padding:0 2px;"


def result_html(result: "Result") -> str:
    """A table with one row per result; below it what is not finite, warnings and generated text."""
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(described(value))}</td>"
        f"<td>{_pictures(result, name, value)}</td></tr>"
        for name, value in result.items()
    ]
    notes = [f"<p>{escape(text)}</p>" for text in (*_not_finite(result), *map("warning: {}".format, result.warnings))]
    texts = [f"<p>{escape(item.text)} <small>({escape(item.stop_reason)})</small></p>" for item in result.generated]
    caption = f"{escape(result.provenance.model)}: {escape(summary(result.cost))}"
    return f"<table><caption>{caption}</caption>{''.join(rows)}</table>{''.join((*notes, *texts))}"


def heat_html(array: np.ndarray, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> str:
    """A matrix as a heat map: blue below zero, red above, white at zero, scaled to the largest finite magnitude.

    NaN and infinity are hatched. ``rows`` and ``columns`` are labels; empty: none.
    """
    values = np.asarray(array, dtype=np.float64)
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max(initial=0.0)) or 1.0
    height, width = (14 if rows else 6), (14 if columns else max(1, min(6, WIDEST_PX // values.shape[1])))
    heads = "".join(f'<th style="{_LABEL}{_UPRIGHT}">{_label(label)}</th>' for label in columns)
    body = [f"<tr>{'<th></th>' if rows else ''}{heads}</tr>"] if columns else []
    for number, row in enumerate(values):
        head = f'<th style="{_LABEL}text-align:right">{_label(rows[number])}</th>' if rows else ""
        cells = "".join(
            f'<td style="background:{_colour(value, largest)}" title="{value:.4g}{_where(labels)}"></td>'
            for value, labels in zip(row, _beside(number, len(row), rows, columns), strict=True)
        )
        body.append(f'<tr style="height:{height}px">{head}{cells}</tr>')
    layout = "" if rows else f"table-layout:fixed;width:{width * values.shape[1]}px"
    return f'<table style="border-spacing:0;{layout}">{"".join(body)}</table>'


def _not_finite(result: "Result") -> Iterator[str]:
    if result.non_finite:
        yield f"NaN or infinity in: {', '.join(result.non_finite)}"


def _pictures(result: "Result", name: str, value: Any) -> str:
    drawn = (_picture(result, flat, array) for flat, array in _arrays(name, value))
    return "".join([picture for picture in drawn if picture][:MOST_PICTURES])


def _arrays(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every array inside ``value`` with the flat name under which it came back."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _arrays(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        keys = getattr(value, "_fields", range(len(value)))
        for key, item in zip(keys, value, strict=True):
            yield from _arrays(f"{name}.{key}", item)


def _picture(result: "Result", name: str, array: np.ndarray) -> str:
    if array.dtype.kind not in "fiub" or not 1 < array.size <= HEAT_CELLS:
        return ""
    axes = result.axes.get(name, ())
    if len(axes) != array.ndim:
        axes = ("",) * array.ndim
    # the batch of one prompt has one row
    long = [place for place in range(array.ndim) if array.shape[place] > 1]
    labels = [_labels(result, axes[place], array.shape[place]) for place in long]
    matrix = np.squeeze(array)
    if matrix.ndim == 1:
        return heat_html(matrix[None], columns=labels[0])
    return heat_html(matrix, *labels) if matrix.ndim == 2 else ""


def _labels(result: "Result", axis: str, size: int) -> Sequence[str]:
    """The tokens along an axis that counts all positions of the prompt; several prompts leave open whose they are."""
    sides = [tokens if axis == SOURCE_AXIS else tokens.target or tokens for tokens in result.tokens]
    prompts = {tokens.strings for tokens in sides}
    strings = prompts.pop() if len(prompts) == 1 else ()
    return strings if axis in POSITION_AXES and len(strings) == size else ()


def _beside(row: int, n_columns: int, rows: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The labels of each cell of a row."""
    own = (rows[row],) if rows else ()
    for place in range(n_columns):
        yield (*own, columns[place]) if columns else own


def _where(labels: Sequence[str]) -> str:
    return escape("".join(f" {label!r}" for label in labels))


def _label(token: str) -> str:
    """A token in one line."""
    return escape(token.replace("\n", "\\n").replace("\t", "\\t"))


def _colour(value: float, largest: float) -> str:
    if not np.isfinite(value):
        return _HATCHED
    pale = round(255 * (1 - min(abs(value) / largest, 1.0)))
    return f"rgb(255,{pale},{pale})" if value > 0 else f"rgb({pale},{pale},255)"
