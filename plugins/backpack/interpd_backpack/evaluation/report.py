"""What comes of an evaluation: its parts, looked at in a terminal, a notebook, a page, and written as files."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from interpd_backpack.evaluation.charts import svg
from interpd_backpack.evaluation.sections import Cell, Part, Section, Table, plain
from interpd_backpack.views import Shown
from interpd_backpack.views.tables import table_html

FILES = ("report.html", "report.md", "numbers.json")
"""What ``save`` writes."""


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What a Backpack, or an edit of one, is worth."""

    parts: Mapping[str, Part]
    """What came out, by the name of the part, in the order in which it was asked for."""
    failures: Mapping[str, str]
    """Parts that could not be measured, and why."""
    provenance: Mapping[str, Any]
    """Model, revision, engine, edit, settings, seconds."""

    def __getitem__(self, name: str) -> Any:
        """The part of that name. Raises ``KeyError``, with the reason where it failed."""
        if name in self.failures:
            raise KeyError(f"{name!r} could not be measured: {self.failures[name]}")
        return self.parts[name]

    def sections(self) -> Iterator[tuple[str, Section]]:
        """What each part says."""
        for name, part in self.parts.items():
            yield name, part.section()

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as JSON has them."""
        parts = {name: part.to_dict() for name, part in self.parts.items()}
        return {"provenance": plain(self.provenance), "parts": parts, "failures": dict(self.failures)}

    def to_markdown(self) -> str:
        """The tables and notes as Markdown."""
        lines = [f"# {self._heading()}", *(f"* {name}: {value}" for name, value in self._facts())]
        for _, section in self.sections():
            lines += ["", f"## {section.title}"]
            for table in section.tables:
                lines += ["", *_markdown(table)]
            lines += ["", *(f"* {note}" for note in section.notes)]
        if self.failures:
            lines += ["", "## Not measured", "", *(f"* {name}: {_line(why)}" for name, why in self.failures.items())]
        return "\n".join(lines) + "\n"

    def save(self, folder: str | Path) -> Path:
        """The folder, with ``report.html``, ``report.md`` and ``numbers.json`` in it; it is made if it is not there."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        numbers = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        for name, text in zip(FILES, (self.to_html(page=True), self.to_markdown(), numbers), strict=True):
            (place / name).write_text(text, encoding="utf-8")
        return place

    def _heading(self) -> str:
        edit = self.provenance.get("edit")
        return f"Evaluation of {self.provenance.get('model', 'a model')}" + (f", edit {edit}" if edit else "")

    def _facts(self) -> Iterator[tuple[str, str]]:
        for name in ("source", "revision", "dtype", "engine", "edit digest", "seconds"):
            if self.provenance.get(name) not in (None, ""):
                yield name, str(self.provenance[name])

    def _body(self) -> str:
        facts = " · ".join(f"{escape(name)} {escape(value)}" for name, value in self._facts())
        parts = [f'<p class="note">{facts}</p>']
        for _, section in self.sections():
            parts.append(f"<h4>{escape(section.title)}</h4>")
            parts += [f'<div class="chart">{svg(chart)}</div>' for chart in section.charts]
            parts += [_html(table) for table in section.tables]
            parts += [f'<p class="note">{escape(note)}</p>' for note in section.notes]
        if self.failures:
            parts.append("<h4>Not measured</h4>")
            parts += [f"<p><b>{escape(name)}</b>: {escape(_line(why))}</p>" for name, why in self.failures.items()]
        style = "<style>.bp .chart{overflow-x:auto}.bp .chart .axis{stroke:var(--dim)}</style>"
        return style + "".join(parts)

    def _rendered(self, width: int) -> RenderableType:
        found: list[RenderableType] = [Text(self._heading(), "bold")]
        for _, section in self.sections():
            found.append(Text(f"\n{section.title}", "bold"))
            for table in section.tables:
                # a title of the grid itself would be as narrow as the grid
                found += [Text(f"\n{table.title}", "italic")] if table.title else []
                found.append(_grid(table))
            found += [Text(note, "dim") for note in section.notes]
        for name, why in self.failures.items():
            found.append(Text(f"\n{name} could not be measured: ", "bold").append(_line(why), "not bold"))
        return Group(*found)


def _markdown(table: Table) -> Iterator[str]:
    if table.title:
        yield f"**{table.title}**"
        yield ""
    for number, row in enumerate((list(table.columns), *table.written())):
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
        if number == 0:
            yield "|" + "---|" * len(row)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _html(table: Table) -> str:
    rows = []
    for row, cells in zip(table.rows, table.written(), strict=True):
        first, *others = (
            _td(value, text, is_first=place == 0) for place, (value, text) in enumerate(zip(row, cells, strict=True))
        )
        rows.append(f"<tr>{first}{''.join(others)}</tr>")
    title = f'<p class="note">{escape(table.title)}</p>' if table.title else ""
    return title + table_html([escape(column) for column in table.columns], rows)


def _td(value: Cell, text: str, *, is_first: bool) -> str:
    if is_first:
        return f"<th>{escape(text)}</th>"
    return f"<td>{escape(text)}</td>" if isinstance(value, int | float) else f'<td class="w">{escape(text)}</td>'


def _grid(table: Table) -> Grid:
    numbers = [any(isinstance(row[place], int | float) for row in table.rows) for place in range(len(table.columns))]
    heads = [
        Column(Text(column), justify="right" if is_number else "left", overflow="fold")
        for column, is_number in zip(table.columns, numbers, strict=True)
    ]
    grid = Grid(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for cells in table.written():
        grid.add_row(*(Text(cell) for cell in cells))
    return grid


def _line(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())
