"""Contributions over many predictions, by token and sense."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from interpd.errors import CallerError
from interpd_backpack.asking import frozen, plain
from interpd_backpack.explaining.contributions import Quantity
from interpd_backpack.views import Shown
from interpd_backpack.views.colours import Scale, scale
from interpd_backpack.views.labels import label, label_html
from interpd_backpack.views.tables import cell_html, table_html

SHOWN = 15
"""Senses at each end, and tokens of the map, that a picture shows."""

_ARRAYS = ("types", "sums", "squares", "counts", "values", "bases", "residuals", "targets")


class TypePart(NamedTuple):
    """What a sense of a token contributes to the predictions that it takes part in."""

    token: str
    id: int
    sense: int
    mean: float
    """Over the predictions that the token takes part in."""
    deviation: float
    """Standard deviation over these."""
    sum: float
    """Over all predictions."""
    count: int
    """Predictions that the token takes part in."""


@dataclass(frozen=True, eq=False, repr=False)
class ContributionsOver(Shown):
    """What senses of tokens add to predictions over many texts."""

    question: str
    """Which number, and where."""
    quantity: Quantity
    types: np.ndarray
    """``[type]``: tokens that stand at or before a position that predicts."""
    sums: np.ndarray
    """``[type sense]``: the sum over predictions."""
    squares: np.ndarray
    """``[type sense]``: the sum over predictions of squares."""
    counts: np.ndarray
    """``[type]``: predictions that it takes part in."""
    values: np.ndarray
    """``[prediction]``: the model's own numbers."""
    bases: np.ndarray
    """``[prediction]``: what comes from elsewhere than the senses."""
    residuals: np.ndarray
    """``[prediction]``: by how much the parts miss the model's number."""
    targets: np.ndarray
    """``[prediction]``: the tokens that are explained."""
    strings: Mapping[int, str]
    n_texts: int
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def by_token(self) -> np.ndarray:
        """``[type]``: the sum over predictions and senses."""
        return self.sums.sum(1)

    def by_sense(self) -> np.ndarray:
        """``[sense]``: the sum over predictions and tokens."""
        return self.sums.sum(0)

    def means(self) -> np.ndarray:
        """``[type sense]``: the mean over the predictions that the token takes part in."""
        return self.sums / self.counts[:, None]

    def top(
        self, n: int = 10, end: Literal["most", "least"] = "most", by: Literal["mean", "sum"] = "mean", least: int = 1
    ) -> tuple[TypePart, ...]:
        """The (token, sense) pairs that contribute most, or least.

        Args:
            n: How many.
            end: Which of them come first.
            by: The mean over the predictions that the token takes part in, or the sum over all.
            least: In how many predictions a token must take part.
        """
        if n < 1:
            raise CallerError(f"n is {n}, expected 1 or more")
        if end not in ("most", "least") or by not in ("mean", "sum"):
            raise CallerError(f"end is {end!r} and by {by!r}, expected most or least, and mean or sum")
        table = self.means() if by == "mean" else self.sums
        known = np.flatnonzero(np.repeat(self.counts >= least, table.shape[1]))
        keys = table.ravel()[known] * (-1 if end == "most" else 1)
        order = known[np.argsort(keys, kind="stable")[:n]]
        return tuple(self._part(*divmod(int(at), table.shape[1])) for at in order)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each token and sense, for ``pandas.DataFrame``."""
        n_types, n_senses = self.sums.shape
        return [self._part(row, sense)._asdict() for row in range(n_types) for sense in range(n_senses)]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "question": self.question,
            "quantity": self.quantity,
            **{name: plain(getattr(self, name)) for name in _ARRAYS},
            "strings": {str(id_): text for id_, text in self.strings.items()},
            "n_texts": self.n_texts,
            "info": dict(self.info),
        }

    def _part(self, row: int, sense: int) -> TypePart:
        id_, count = int(self.types[row]), int(self.counts[row])
        total = float(self.sums[row, sense])
        spread = max(0.0, float(self.squares[row, sense]) / count - (total / count) ** 2) ** 0.5
        return TypePart(self.strings[id_], id_, sense, total / count, spread, total, count)

    def _heading(self) -> str:
        n = len(self.values)
        return f"{self.question}: {n} prediction{'s' * (n != 1)} in {self.n_texts} texts"

    def _proof(self) -> str:
        most = np.abs(self.residuals).max()
        return f"mean of the number {self.values.mean():.4g}; the parts miss it by {most:.1e} at most{self._cut()}"

    def _cut(self) -> str:
        return f"; {self.info['cut']}" if self.info.get("cut") else ""

    def _shown(self) -> tuple[list[int], Scale]:
        """The tokens of the map, and its colours."""
        strength = np.abs(self.means()).max(1)
        rows = np.sort(np.argsort(-strength, kind="stable")[:SHOWN]).tolist()
        return rows, scale((self.means()[rows],))

    def _ends(self) -> list[tuple[TypePart, TypePart]]:
        n = min(SHOWN, self.sums.size)
        return list(zip(self.top(n), self.top(n, "least"), strict=True))

    def _body(self) -> str:
        rows, used = self._shown()
        head = ["", "most", "sense", "mean", "in", "least", "sense", "mean", "in"]
        body = []
        for number, pair in enumerate(self._ends(), 1):
            cells = "".join(
                f'<td class="w">{label_html(one.token)}</td><td>{one.sense}</td>'
                f"{cell_html(one.mean, used, f'± {one.deviation:.4g}, sum {one.sum:.6g}')}<td>{one.count}</td>"
                for one in pair
            )
            body.append(f"<tr><th>{number}</th>{cells}</tr>")
        table = []
        for row in rows:
            name = label_html(self.strings[int(self.types[row])])
            cells = "".join(cell_html(value, used) for value in self.means()[row].tolist())
            table.append(f"<tr><th>{name} <i>{self.counts[row]}×</i></th>{cells}</tr>")
        columns = ["", *map(str, range(self.sums.shape[1]))]
        title = f"<h4>The {len(rows)} strongest tokens <small>means, by sense</small></h4>"
        note = f'<p class="note">{self._proof()}</p>'
        return f"{used.legend_html()}{note}{table_html(head, body)}{title}{table_html(columns, table)}"

    def _rendered(self, width: int) -> RenderableType:
        _, used = self._shown()
        table = Table("", "most", "sense", "mean", "in", "least", "sense", "mean", "in", box=box.SIMPLE_HEAD)
        for number, pair in enumerate(self._ends(), 1):
            cells = [
                cell
                for one in pair
                for cell in (
                    label(one.token), str(one.sense), Text(used.written(one.mean), used.style(one.mean)), str(one.count)
                )
            ]  # fmt: skip
            table.add_row(str(number), *cells)
        heading = Text(self._heading(), "bold").append(f"  {used.said()}", "not bold dim")
        return Group(heading, Text(self._proof(), "dim"), table)
