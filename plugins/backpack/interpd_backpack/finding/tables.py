"""Tables of texts, for pages and for terminals."""

from collections.abc import Sequence
from html import escape

from rich.table import Table
from rich.text import Text

from interpd_backpack.views.labels import label
from interpd_backpack.views.tables import table_html


def rows_html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first cell of each row is its heading."""
    lines = [
        f"<tr><th>{escape(label(row[0]))}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    ]
    return table_html([escape(cell) for cell in head], lines)


def rows_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The same for a terminal."""
    table = Table(*head)
    for row in rows:
        table.add_row(Text(label(row[0])), *(Text(cell) for cell in row[1:]))
    return table
