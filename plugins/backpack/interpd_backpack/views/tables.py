"""Tables of coloured numbers and of words, for pages and for terminals."""

from collections.abc import Iterator, Sequence
from html import escape

from rich import box
from rich.cells import cell_len
from rich.table import Column, Table
from rich.text import Text

from interpd_backpack.views.colours import Scale
from interpd_backpack.views.labels import label, label_html

WIDEST = 28
"""Characters of a row's label in a terminal; longer ones are cut."""
FRAME = 2
"""What a column of a terminal's table takes beside its text."""

Weighed = Sequence[tuple[str, float]]
"""Words and the number of each."""


def cell_html(value: float, used: Scale, hover: str = "", *, extra: str = "") -> str:
    """A cell with its colour; ``hover`` is what it says where the pointer is over it."""
    title = f' title="{escape(hover)}"' if hover else ""
    painted = used.painted(value)
    if extra:
        painted = painted.replace('class="', f'class="{extra} ')
    return f"<td{painted}{title}>{used.written(value)}</td>"


def table_html(head: Sequence[str], rows: Sequence[str]) -> str:
    """A table in a frame that scrolls; cells of ``head`` are HTML, rows begin with their ``<tr>``."""
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def words_html(words: Weighed, used: Scale, *, numbers: bool = False) -> str:
    """Words one behind the other, each with its colour; its number where the pointer is over it, or beside it."""
    return " ".join(
        f'<mark{used.painted(value)} title="{value:.6g}">{label_html(text)}</mark>'
        + (f" <i>{used.written(value)}</i>" if numbers else "")
        for text, value in words
    )


def words_text(words: Weighed, used: Scale) -> Text:
    """The same for a terminal, with the number of each."""
    found = Text()
    for number, (text, value) in enumerate(words):
        found.append("  " if number else "").append(label(text), used.style(value))
        found.append(f" {used.written(value)}", "dim")
    return found


def grids(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[str, object]]], width: int
) -> Iterator[Table]:
    """A table of cells (text, style), cut into several where it is wider than ``width`` characters."""
    names = [short(row) for row in rows]
    left = max(map(cell_len, names), default=0) + FRAME
    widths = [
        max([cell_len(head), *(cell_len(row[number][0]) for row in cells)]) + FRAME
        for number, head in enumerate(columns)
    ]
    for start, stop in _cuts(widths, width - left):
        heads = [Column(head, justify="right", no_wrap=True) for head in columns[start:stop]]
        table = Table(Column("", justify="right", no_wrap=True), *heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name, row in zip(names, cells, strict=True):
            table.add_row(name, *(Text(text, style or "") for text, style in row[start:stop]))
        yield table


def short(text: str, longest: int = WIDEST) -> str:
    """A label that is cut where it is too long."""
    if cell_len(text) <= longest:
        return text
    return text[: longest - 1] + "…"


def _cuts(widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Ranges of columns that fit beside one another; each holds one at least."""
    cuts, start, taken = [], 0, 0
    for number, width in enumerate(widths):
        if number > start and taken + width > room:
            cuts.append((start, number))
            start, taken = number, 0
        taken += width
    return [*cuts, (start, len(widths))]
