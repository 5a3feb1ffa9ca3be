"""How alike words are, sense by sense."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from interpd.errors import CallerError
from interpd_backpack.asking import frozen, plain
from interpd_backpack.reading.senses import policy, shown, word_dict
from interpd_backpack.views import Shown
from interpd_backpack.views.colours import scale
from interpd_backpack.views.labels import label, label_html
from interpd_backpack.views.tables import cell_html, grids, table_html
from interpd_backpack.words import Word

MEASURES = {
    "min": "the smallest over senses",
    "max": "the largest over senses",
    "mean": "the mean over senses",
    "flat": "the cosine of all senses, one behind the other",
    "max_pair": "the largest over pairs of senses",
    "min_pair": "the smallest over pairs of senses",
}
"""Besides those of one sense, ``sense 12``."""


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(Shown):
    """Cosines of the senses of pairs of words; NaN where a sense is a vector of zeros."""

    pairs: tuple[tuple[Word, Word], ...]
    by_sense: np.ndarray
    """``[pair sense]``: Sim_l of Hewitt et al. 2023."""
    flat: np.ndarray
    """``[pair]``: of all senses, one behind the other."""
    largest: np.ndarray
    """``[pair]``: the largest over pairs of a sense of one and a sense of the other."""
    largest_senses: np.ndarray
    """``[pair 2]``: which they are."""
    smallest: np.ndarray
    smallest_senses: np.ndarray
    strings: Mapping[int, str]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("by_sense", "flat", "largest", "largest_senses", "smallest", "smallest_senses"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def measure(self, name: str) -> np.ndarray:
        """``[pair]``: the similarity by one of ``MEASURES``, or by a sense, ``"sense 12"``. ``min`` is the paper's."""
        n_senses = self.by_sense.shape[1]
        if name.startswith("sense ") and name[6:].isdigit() and int(name[6:]) < n_senses:
            return self.by_sense[:, int(name[6:])]
        if name not in MEASURES:
            last = f"'sense 0' to 'sense {n_senses - 1}'"
            raise CallerError(f"there is no measure {name!r}; there are {', '.join(map(repr, MEASURES))} and {last}")
        if name in ("min", "max", "mean"):
            return np.asarray(getattr(self.by_sense, name)(axis=1))
        return {"flat": self.flat, "max_pair": self.largest, "min_pair": self.smallest}[name]

    def measures(self) -> dict[str, np.ndarray]:
        """All of them by name, ``[pair]`` each."""
        senses = (f"sense {number}" for number in range(self.by_sense.shape[1]))
        return {name: self.measure(name) for name in (*MEASURES, *senses)}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each pair, a column for each measure, for ``pandas.DataFrame``."""
        found = self.measures()
        return [
            {"word": one.text, "other": other.text, **{name: float(values[row]) for name, values in found.items()}}
            for row, (one, other) in enumerate(self.pairs)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        names = ("by_sense", "flat", "largest", "largest_senses", "smallest", "smallest_senses")
        return {
            "pairs": [[word_dict(word) for word in pair] for pair in self.pairs],
            **{name: plain(getattr(self, name)) for name in names},
            "strings": {str(id_): text for id_, text in self.strings.items()},
            "info": dict(self.info),
        }

    def _heading(self) -> str:
        n = len(self.pairs)
        return f"cosines of the senses of {n} pair{'s' * (n != 1)} of words"

    def _rows(self) -> Iterator[tuple[str, list[float], list[str]]]:
        """Of each pair its name, its numbers, and what is to be said of each."""
        for row, pair in enumerate(self.pairs):
            one, other = (shown(word, self.strings) for word in pair)
            values = [*self.by_sense[row].tolist(), *(float(self.measure(name)[row]) for name in MEASURES)]
            notes = [f"sense {number}" for number in range(self.by_sense.shape[1])] + list(MEASURES.values())
            for name, senses in (("max_pair", self.largest_senses), ("min_pair", self.smallest_senses)):
                at = self.by_sense.shape[1] + list(MEASURES).index(name)
                notes[at] += f": sense {senses[row, 0]} of {one} and {senses[row, 1]} of {other}"
            yield f"{one} · {other}", values, notes

    def _notes(self) -> str:
        words = {word.text: policy(word) for pair in self.pairs for word in pair if policy(word)}
        return "; ".join(f"{label(text)}: {how}" for text, how in words.items())

    def _body(self) -> str:
        used, n_senses = scale((self.by_sense, self.largest, self.smallest)), self.by_sense.shape[1]
        rows = []
        for name, values, notes in self._rows():
            cells = [
                cell_html(value, used, f"{note}: {value:.6g}", extra="t" if number == n_senses else "")
                for number, (value, note) in enumerate(zip(values, notes, strict=True))
            ]
            rows.append(f"<tr><th>{label_html(name)}</th>{''.join(cells)}</tr>")
        head = [
            "",
            *map(str, range(n_senses)),
            *(f'<span title="{what}">{name}</span>' for name, what in MEASURES.items()),
        ]
        note = f'<p class="note">{escape(self._notes())}</p>' if self._notes() else ""
        return used.legend_html() + note + table_html(head, rows)

    def _rendered(self, width: int) -> RenderableType:
        used = scale((self.by_sense, self.largest, self.smallest))
        found = list(self._rows())
        cells = [[(used.written(value), used.style(value)) for value in values] for _, values, _ in found]
        columns = [*map(str, range(self.by_sense.shape[1])), *MEASURES]
        parts: list[RenderableType] = [Text(self._heading(), "bold").append(f"  {used.said()}", "not bold dim")]
        if self._notes():
            parts.append(Text(self._notes(), "dim"))
        return Group(*parts, *grids([name for name, _, _ in found], columns, cells, width))
