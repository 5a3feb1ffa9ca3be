"""Results as HTML for notebooks: a table, with small matrices as heat maps. No script, no style sheet."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from interpd_client.descriptions import described, summary

if TYPE_CHECKING:
    from interpd_client.result import Result

HEAT_CELLS = 4096
"""Larger matrices are described, not drawn."""


def result_html(result: "Result") -> str:
    """A table with one row per result, generated text below."""
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(described(value))}</td><td>{_picture(value)}</td></tr>"
        for name, value in result.items()
    ]
    texts = [f"<p>{escape(item.text)} <small>({escape(item.stop_reason)})</small></p>" for item in result.generated]
    caption = f"{escape(result.provenance.model)}: {escape(summary(result.cost))}"
    return f"<table><caption>{caption}</caption>{''.join(rows)}</table>{''.join(texts)}"


def heat_html(array: np.ndarray) -> str:
    """A matrix as a heat map: blue below zero, red above, white at zero, scaled to the largest magnitude."""
    values = np.nan_to_num(np.asarray(array, dtype=np.float64), posinf=0.0, neginf=0.0)
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    rows = (
        "".join(f'<td style="background:{_colour(value / largest)}" title="{value:.4g}"></td>' for value in row)
        for row in values
    )
    body = "".join(f'<tr style="height:6px">{row}</tr>' for row in rows)
    return f'<table style="border-spacing:0;table-layout:fixed;width:{6 * values.shape[1]}px">{body}</table>'


def _picture(value: Any) -> str:
    if isinstance(value, Mapping) or not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return ""
    # the batch of one prompt has one row
    matrix = np.squeeze(value)
    if matrix.ndim != 2 or not 0 < matrix.size <= HEAT_CELLS:
        return ""
    return heat_html(matrix)


def _colour(share: float) -> str:
    pale = round(255 * (1 - min(abs(share), 1.0)))
    return f"rgb(255,{pale},{pale})" if share > 0 else f"rgb({pale},{pale},255)"
