"""How the senses of a model divide the work, and which of them say one thing whatever the token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from interpd.errors import CallerError
from interpd_backpack.asking import frozen, plain
from interpd_backpack.views import Shown
from interpd_backpack.views.colours import Scale, scale
from interpd_backpack.views.labels import label, label_html
from interpd_backpack.views.tables import cell_html, grids, table_html

COLLAPSED = 0.5
"""A sense whose first word is the same for more of the tokens has collapsed."""

BANDS = (
    "on tokens by how often they occur in the texts: the share of the weights, less that of even weights (in brackets)"
)
"""What the map of sense weights shows."""

_ARRAYS = (
    "entropy", "overlap", "variance", "explained", "norms", "top_ids", "top_shares", "distinct", "weight_entropy",
    "said", "types", "counts", "mass", "even",
)  # fmt: skip

_COLUMNS = {
    "entropy": "entropy of what the sense predicts by itself, in nats: the mean over tokens",
    "distinct": "how many words are the first of some token",
    "variance": "its share in the variance of the senses over tokens",
    "explained": "its share in the variance of the sum of the senses; below zero it works against the others",
    "norms": "mean length of the sense vectors",
    "weight_entropy": "entropy of the sense weights over positions, in nats",
    "said": "mean length of what the sense adds at a position of the texts",
}


@dataclass(frozen=True, eq=False, repr=False)
class Specialisation(Shown):
    """What each sense index does. Arrays of the texts are NaN, or empty, where none were given."""

    tokens: tuple[int, ...]
    """Whose senses were looked at."""
    n_texts: int
    top_words: int
    """Words of a sense that count for the overlap."""
    entropy: np.ndarray
    """``[sense]``: of what a sense predicts by itself, in nats: the mean over tokens."""
    overlap: np.ndarray
    """``[sense sense]``: the share of their top words that two senses of a token have in common, on the average."""
    variance: np.ndarray
    """``[sense]``: ``var(C_l) / sum_m var(C_m)`` over tokens."""
    explained: np.ndarray
    """``[sense]``: ``cov(C_l, S) / var(S)`` with the sum S of all senses; they add up to 1."""
    norms: np.ndarray
    """``[sense]``: mean length of the sense vectors."""
    top_ids: np.ndarray
    """``[sense]``: the word that is the first of the most tokens."""
    top_shares: np.ndarray
    """``[sense]``: of how many, as a share."""
    distinct: np.ndarray
    """``[sense]``: how many words are the first of some token."""
    weight_entropy: np.ndarray
    """``[sense]``: of the sense weights over positions, in nats: the mean over positions of the texts."""
    said: np.ndarray
    """``[sense]``: mean length of what a sense adds at a position of the texts."""
    types: np.ndarray
    """``[type]``: the tokens of the texts."""
    counts: np.ndarray
    """``[type]``"""
    mass: np.ndarray
    """``[sense type]``: the share of a sense's weights that falls on a type of token; 1 over all types."""
    even: np.ndarray
    """``[type]``: the share if all positions weighed the same."""
    strings: Mapping[int, str]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def n_senses(self) -> int:
        """k."""
        return len(self.entropy)

    def collapsed(self, share: float = COLLAPSED) -> tuple[int, ...]:
        """The senses whose first word is the same for more than this share of the tokens."""
        return tuple(np.flatnonzero(self.top_shares > share).tolist())

    def bands(self, n: int = 4) -> list[dict[str, Any]]:
        """Sense weights by the frequency of the token they fall on, from the rarest band to the most frequent.

        Each band has about as many positions of the texts: ``low`` to ``high`` occurrences, ``n_types``, ``even`` (the
        share if all positions weighed the same) and ``mass``, ``[sense]``.
        """
        if n < 1:
            raise CallerError(f"n is {n}, expected one band at least")
        if not len(self.types):
            raise CallerError("no texts were given: sense weights are those of texts")
        order = np.argsort(self.counts, kind="stable")
        seen = np.cumsum(self.counts[order]) - self.counts[order] / 2
        places = np.minimum((seen / self.counts.sum() * n).astype(int), n - 1)
        # tokens that are as frequent are in one band
        of_count = {count: int(places[self.counts[order] == count].min()) for count in np.unique(self.counts).tolist()}
        band_of = np.array([of_count[count] for count in self.counts.tolist()])
        found = []
        for band in np.unique(band_of):
            at = band_of == band
            low, high = int(self.counts[at].min()), int(self.counts[at].max())
            numbers = {"even": float(self.even[at].sum()), "mass": self.mass[:, at].sum(1)}
            found.append({"low": low, "high": high, "n_types": int(at.sum()), **numbers})
        return found

    def rows(self) -> list[dict[str, Any]]:
        """A row for each sense, for ``pandas.DataFrame``."""
        numbers = ("entropy", "variance", "explained", "norms", "top_shares", "distinct", "weight_entropy", "said")
        return [
            {"sense": sense, "top_word": self.strings[int(self.top_ids[sense])]}
            | {name: getattr(self, name)[sense].item() for name in numbers}
            for sense in range(self.n_senses)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        arrays = {name: plain(getattr(self, name)) for name in _ARRAYS}
        strings = {str(id_): text for id_, text in self.strings.items()}
        counts = {"tokens": list(self.tokens), "n_texts": self.n_texts, "top_words": self.top_words}
        return {**counts, **arrays, "collapsed": list(self.collapsed()), "strings": strings, "info": dict(self.info)}

    def _heading(self) -> str:
        texts = f" and {self.n_texts} texts" if self.n_texts else ""
        return f"what {self.n_senses} senses do, over {len(self.tokens)} tokens{texts}"

    def _note(self) -> str:
        collapsed = self.collapsed()
        if not collapsed:
            return f"no sense has one first word for more than {COLLAPSED:.0%} of the tokens{self._cut()}"
        words = ", ".join(f"{sense} ({label(self.strings[int(self.top_ids[sense])])})" for sense in collapsed)
        return f"collapsed, one first word for more than {COLLAPSED:.0%} of the tokens: {words}{self._cut()}"

    def _cut(self) -> str:
        return f"; {self.info['cut']}" if self.info.get("cut") else ""

    def _columns(self) -> list[str]:
        return [name for name in _COLUMNS if self.n_texts or name not in ("weight_entropy", "said")]

    def _body(self) -> str:
        head = [
            "sense",
            "first word",
            *(f'<span title="{_COLUMNS[name]}">{_named(name)}</span>' for name in self._columns()),
        ]
        body = []
        for sense in range(self.n_senses):
            word = f"{label_html(self.strings[int(self.top_ids[sense])])} {self.top_shares[sense]:.0%}"
            cells = "".join(f"<td>{_written(getattr(self, name)[sense])}</td>" for name in self._columns())
            body.append(f"<tr><th>{sense}</th><td>{word}</td>{cells}</tr>")
        parts = [f'<p class="note">{escape(self._note())}</p>', table_html(head, body)]
        parts.append(f"<h4>Top {self.top_words} words in common <small>of two senses of a token</small></h4>")
        names = [str(sense) for sense in range(self.n_senses)]
        parts.append(_map_html("sense", names, names, self.overlap, Scale(1.0, is_signed=False)))
        if self.n_texts:
            titles, table = self._by_band()
            parts.append(f"<h4>Sense weights <small>{BANDS}</small></h4>")
            parts.append(_map_html("sense", names, titles, table, scale((table,))))
        return "".join(parts)

    def _by_band(self) -> tuple[list[str], np.ndarray]:
        bands = self.bands()
        ends = ["–".join(map(str, dict.fromkeys((band["low"], band["high"])))) for band in bands]
        titles = [f"{end}× ({band['even']:.0%})" for end, band in zip(ends, bands, strict=True)]
        return titles, np.stack([band["mass"] - band["even"] for band in bands], 1)

    def _rendered(self, width: int) -> RenderableType:
        names = [str(sense) for sense in range(self.n_senses)]
        columns = ["first word", "share", *map(_named, self._columns())]
        cells = [
            [(label(self.strings[int(self.top_ids[sense])]), ""), (f"{self.top_shares[sense]:.0%}", "")]
            + [(_written(getattr(self, name)[sense]), "") for name in self._columns()]
            for sense in range(self.n_senses)
        ]
        parts: list[RenderableType] = [Text(self._heading(), "bold"), Text(self._note(), "dim")]
        parts += grids(names, columns, cells, width)
        parts.append(Text(f"top {self.top_words} words in common of two senses of a token", "bold"))
        parts += _map_text(names, names, self.overlap, Scale(1.0, is_signed=False), width)
        if self.n_texts:
            titles, table = self._by_band()
            parts.append(Text("sense weights  ", "bold").append(BANDS, "not bold dim"))
            parts += _map_text(names, titles, table, scale((table,)), width)
        return Group(*parts)


def _named(name: str) -> str:
    return {"norms": "length", "weight_entropy": "weights' entropy", "said": "adds"}.get(name, name)


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, np.integer) else "–" if np.isnan(value) else f"{value:.3f}"


def _map_html(corner: str, rows: list[str], columns: list[str], table: np.ndarray, used: Scale) -> str:
    body = [
        f"<tr><th>{row}</th>{''.join(cell_html(value, used) for value in values)}</tr>"
        for row, values in zip(rows, table.tolist(), strict=True)
    ]
    return table_html([corner, *columns], body)


def _map_text(rows: list[str], columns: list[str], table: np.ndarray, used: Scale, width: int) -> list[Any]:
    cells = [[(used.written(value), used.style(value)) for value in values] for values in table.tolist()]
    return list(grids(rows, columns, cells, width))
