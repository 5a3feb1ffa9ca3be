"""What a reproduction says: on standard output, in ``report.md`` with figures, and as numbers in ``numbers.json``."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


class Report:
    """Sections of text, tables and figures. Nothing is on disk before ``save``.

    Args:
        title: Of the page.
    """

    def __init__(self, title: str) -> None:
        self._lines = [f"# {title}"]
        self._figures: dict[str, str] = {}
        self.numbers: dict[str, Any] = {}
        """What ``numbers.json`` holds."""

    def heading(self, words: str) -> None:
        """Begins a section."""
        self._say(f"## {words}")

    def text(self, words: str) -> None:
        """A paragraph."""
        self._say(words)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table, aligned so that it can be read as it is."""
        cells = [[str(cell) for cell in row] for row in (columns, *rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        self._say("\n".join([lines[0], rule, *lines[1:]]))

    def figure(self, name: str, svg: str, words: str) -> None:
        """A picture, which is a file of its own beside the report."""
        self._figures[f"{name}.svg"] = svg
        self._lines.append(f"![{words}]({name}.svg)")

    def findings(self, found: Mapping[str, bool]) -> None:
        """A list of claims, and whether each holds."""
        self._say("\n".join(f"* {'yes' if holds else 'NO '}: {claim}" for claim, holds in found.items()))

    def save(self, folder: Path) -> None:
        """Writes everything."""
        for name, svg in self._figures.items():
            (folder / name).write_text(svg, encoding="utf-8")
        (folder / "report.md").write_text("\n\n".join(self._lines) + "\n", encoding="utf-8")
        text = json.dumps(_plain(self.numbers), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "numbers.json").write_text(text + "\n", encoding="utf-8")

    def _say(self, words: str) -> None:
        self._lines.append(words)
        sys.stdout.write(f"{words}\n\n")
        sys.stdout.flush()


def _plain(value: Any) -> Any:
    """As JSON has it: numbers that are none are null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
