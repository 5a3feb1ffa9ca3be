"""What parts of an evaluation say: tables, charts and notes, whatever they are shown in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Cell = str | float | int | None
"""A word, a number, or nothing."""


@dataclass(frozen=True)
class Table:
    """Words and numbers in rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""

    def written(self) -> list[list[str]]:
        """Its cells as texts."""
        return [[written(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Chart:
    """Groups of bars: numbers of several series for each label."""

    title: str
    labels: tuple[str, ...]
    series: Mapping[str, Sequence[float]]
    """By name, a number for each label; NaN is no bar."""
    line: float | None = None
    """A level that is marked."""


@dataclass(frozen=True)
class Section:
    """What one part of an evaluation says."""

    title: str
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What has to be known of the numbers: policies, what was left out and why."""


class Part(Protocol):
    """A part of an evaluation, as it came out."""

    def section(self) -> Section:
        """What it says."""

    def to_dict(self) -> dict[str, Any]:
        """All its numbers, as JSON has them."""


def written(cell: Cell) -> str:
    """A cell as text: numbers with four digits that count."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str | int):
        return str(cell)
    if cell and not 1e-3 <= abs(cell) < 1e5:
        return f"{cell:.3g}"
    n_before = len(str(int(abs(cell)))) if abs(cell) >= 1 else 0
    return f"{cell:.{max(0, 4 - n_before)}f}"


def plain(value: Any) -> Any:
    """A value as JSON has it: arrays are lists, what is no number is null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def percent(share: float) -> str:
    """A share in words: ``44.3 %``."""
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"
