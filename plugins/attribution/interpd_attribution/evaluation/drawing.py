"""The table of an evaluation, in a terminal and as HTML."""

import math
import sys
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from interpd_attribution.evaluation.metrics import METRICS
from interpd_attribution.views.style import PAGE, STYLE

if TYPE_CHECKING:
    from interpd_attribution.evaluation.table import Evaluation

FRAME = 3
"""What the lines and blanks of a column take."""
NAME = 22
"""Longer names of methods take several lines."""
ARROWS = {"high": "↑", "low": "↓", "": ""}
NOTE = "mean over inputs ± standard error; ↑ higher is better, ↓ lower is better; the best of a row is marked"


def display(evaluation: "Evaluation") -> None:
    """Shows it."""
    # a notebook has imported IPython itself, or there is none
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        tools = sys.modules["IPython.display"]
        tools.display(tools.HTML(html(evaluation)))
        return
    console = Console()
    console.print(terminal(evaluation, console.width))


def terminal(evaluation: "Evaluation", width: int) -> Group:
    """The table for a terminal, metrics below one another; several where it is wider than ``width`` characters."""
    left = max(map(len, map(_head, evaluation.metrics)), default=0) + 2 * FRAME
    tables = [_table(evaluation, block) for block in _blocks(evaluation, width - left)]
    return Group(Text(_title(evaluation), "bold"), *tables, Text(NOTE, "dim"))


def _blocks(evaluation: "Evaluation", width: int) -> list[list[str]]:
    """Methods whose columns fit beside one another."""
    blocks: list[list[str]] = [[]]
    room = width
    for method in evaluation.methods:
        needed = _width(evaluation, method) + FRAME
        if blocks[-1] and needed > room:
            blocks.append([])
            room = width
        blocks[-1].append(method)
        room -= needed
    return blocks


def _table(evaluation: "Evaluation", methods: Sequence[str]) -> Table:
    table = Table()
    table.add_column("", no_wrap=True)
    for method in methods:
        table.add_column(Text(method), justify="right", width=_width(evaluation, method))
    for metric in evaluation.metrics:
        best = _best(evaluation, metric)
        cells = [Text(_cell(evaluation, one, metric), "bold" if one in best else "") for one in methods]
        table.add_row(Text(_head(metric)), *cells)
    return table


def _width(evaluation: "Evaluation", method: str) -> int:
    """That of a method's column; a longer name takes several lines."""
    return max(min(len(method), NAME), *(len(_cell(evaluation, method, metric)) for metric in evaluation.metrics))


def html(evaluation: "Evaluation", *, is_page: bool = False) -> str:
    """The table as HTML."""
    heads = "".join(f"<th><bdi>{escape(method)}</bdi></th>" for method in evaluation.methods)
    rows = []
    for metric in evaluation.metrics:
        best = _best(evaluation, metric)
        cells = ""
        for method in evaluation.methods:
            found = evaluation[method, metric]
            hover = f"{method}, {metric}: {found}"
            text = escape(_cell(evaluation, method, metric))
            cells += f'<td title="{escape(hover)}">{f"<b>{text}</b>" if method in best else text}</td>'
        about = escape(METRICS[metric].says) if metric in METRICS else ""
        rows.append(f'<tr><th title="{about}">{escape(_head(metric))}</th>{cells}</tr>')
    body = (
        f'{STYLE}<div class="ia"><h3>{escape(_title(evaluation))}</h3><div class="scroll"><table>'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">{escape(NOTE)}</p></div>'
    )
    return PAGE.format(title="Evaluation", body=body) if is_page else body


def _title(evaluation: "Evaluation") -> str:
    target = evaluation.info.get("target", "")
    n_inputs = evaluation.values.shape[2]
    said = f" of {target}" if target else ""
    return f"Attributions{said} on {n_inputs} input{'s' if n_inputs != 1 else ''}"


def _head(metric: str) -> str:
    return f"{metric} {ARROWS[METRICS[metric].better]}".rstrip() if metric in METRICS else metric


def _cell(evaluation: "Evaluation", method: str, metric: str) -> str:
    found = evaluation[method, metric]
    if math.isnan(found.mean):
        return "-"
    return f"{found.mean:.4g}" + ("" if math.isnan(found.standard_error) else f" ± {found.standard_error:.2g}")


def _best(evaluation: "Evaluation", metric: str) -> frozenset[str]:
    """The methods whose means are the best; none where there is no better."""
    if metric not in METRICS or not METRICS[metric].better:
        return frozenset()
    means = {method: evaluation[method, metric].mean for method in evaluation.methods}
    known = [mean for mean in means.values() if not math.isnan(mean)]
    if not known:
        return frozenset()
    best = (max if METRICS[metric].better == "high" else min)(known)
    return frozenset(method for method, mean in means.items() if mean == best)
