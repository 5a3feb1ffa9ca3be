"""Senses of the whole vocabulary in the order in which they push a word, or are like another sense."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from interpd.errors import CallerError
from interpd_backpack.asking import frozen, plain
from interpd_backpack.views import Shown
from interpd_backpack.views.colours import Scale, scale
from interpd_backpack.views.labels import label, label_html
from interpd_backpack.views.tables import cell_html, table_html, words_html, words_text


class RankedSense(NamedTuple):
    """A sense of a token, and a number."""

    token: str
    id: int
    sense: int
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class SenseRanking(Shown):
    """The senses of all tokens that come first and last."""

    question: str
    """What they are ranked by, in words."""
    by: str
    most_ids: np.ndarray
    """``[sense top]``: of each sense index, the tokens whose sense comes first; -1 where there is none."""
    most_scores: np.ndarray
    least_ids: np.ndarray
    least_scores: np.ndarray
    strings: Mapping[int, str]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("most_ids", "most_scores", "least_ids", "least_scores"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def top(self, n: int | None = None, sense: int | None = None) -> tuple[RankedSense, ...]:
        """The first ``n`` (by default as many as were asked for), of all senses or of one index."""
        return self._end(self.most_ids, self.most_scores, n, sense, descending=True)

    def bottom(self, n: int | None = None, sense: int | None = None) -> tuple[RankedSense, ...]:
        """The last ``n``, the last first."""
        return self._end(self.least_ids, self.least_scores, n, sense, descending=False)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each end, sense index and token, for ``pandas.DataFrame``."""
        return [
            {"end": end, "place": place, **one._asdict()}
            for end, found in (("most", self.top), ("least", self.bottom))
            for sense in range(len(self.most_ids))
            for place, one in enumerate(found(sense=sense), 1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        names = ("most_ids", "most_scores", "least_ids", "least_scores")
        strings = {str(id_): text for id_, text in self.strings.items()}
        tables = {name: plain(getattr(self, name)) for name in names}
        return {"question": self.question, "by": self.by, **tables, "strings": strings, "info": dict(self.info)}

    def _end(
        self, ids: np.ndarray, scores: np.ndarray, n: int | None, sense: int | None, *, descending: bool
    ) -> tuple[RankedSense, ...]:
        n_senses, n_each = ids.shape
        if sense is not None and not 0 <= sense < n_senses:
            raise CallerError(f"sense {sense} is not there: the model has senses 0 to {n_senses - 1}")
        if n is not None and not 1 <= n <= n_each:
            raise CallerError(f"n is {n}, but the first {n_each} were asked for: give top={n}")
        found = [
            RankedSense(self.strings[id_], id_, index, float(scores[index, place]))
            for index in (range(n_senses) if sense is None else (sense,))
            for place, id_ in enumerate(ids[index].tolist())
            if id_ >= 0
        ]
        sign = -1.0 if descending else 1.0
        return tuple(sorted(found, key=lambda one: sign * one.score)[: n or n_each])

    def _heading(self) -> str:
        return f"{self.question}: {'products' if self.by == 'dot' else self.by}"

    def _scale(self) -> Scale:
        return scale((self.most_scores, self.least_scores))

    def _weighed(self, sense: int) -> tuple[list[tuple[str, float]], ...]:
        return tuple([(one.token, one.score) for one in end(sense=sense)] for end in (self.top, self.bottom))

    def _body(self) -> str:
        used, head = self._scale(), ["", "most", "sense", "score", "least", "sense", "score"]
        body = []
        for number, pair in enumerate(zip(self.top(), self.bottom(), strict=False), 1):
            cells = "".join(
                f'<td class="w">{label_html(one.token)}</td><td>{one.sense}</td>{cell_html(one.score, used)}'
                for one in pair
            )
            body.append(f"<tr><th>{number}</th>{cells}</tr>")
        parts = [used.legend_html(), "<h4>Over all senses</h4>", table_html(head, body), "<h4>By sense</h4>"]
        rows = [
            f"<tr><th>{sense}</th>" + "".join(f'<td class="w">{words_html(end, used)}</td>' for end in ends) + "</tr>"
            for sense in range(len(self.most_ids))
            for ends in (self._weighed(sense),)
        ]
        return "".join([*parts, table_html(["sense", "most", "least"], rows)])

    def _rendered(self, width: int) -> RenderableType:
        used = self._scale()
        table = Table("", "most", "sense", "score", "least", "sense", "score", box=box.SIMPLE_HEAD)
        for number, pair in enumerate(zip(self.top(), self.bottom(), strict=False), 1):
            cells = [
                cell
                for one in pair
                for cell in (label(one.token), str(one.sense), Text(used.written(one.score), used.style(one.score)))
            ]
            table.add_row(str(number), *cells)
        senses = Table("sense", "most", "least", box=box.SIMPLE_HEAD, width=width)
        for sense in range(len(self.most_ids)):
            senses.add_row(str(sense), *(words_text(end, used) for end in self._weighed(sense)))
        return Group(Text(self._heading(), "bold").append(f"  {used.said()}", "not bold dim"), table, senses)
