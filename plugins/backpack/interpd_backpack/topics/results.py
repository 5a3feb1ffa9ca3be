"""The senses that speak for a topic."""

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
from interpd_backpack.views.colours import scale
from interpd_backpack.views.labels import label, label_html
from interpd_backpack.views.tables import cell_html, table_html
from interpd_backpack.words import Word


class TopicSense(NamedTuple):
    """A sense of a token, how much it speaks for the topic, and its factor."""

    token: str
    id: int
    sense: int
    score: float
    factor: float


@dataclass(frozen=True, eq=False, repr=False)
class TopicTable(Shown):
    """A topic, as the vocabulary has it."""

    bag: tuple[Word, ...]
    formula: str
    """What scores are divided by: ``code`` (the largest logit) or ``paper`` (the largest absolute one)."""
    quantiles: tuple[float, ...]
    strengths: tuple[float, ...]
    """The factor of each band, the highest first."""
    scores: np.ndarray
    """``[d_vocab sense]``"""
    factors: np.ndarray
    """``[d_vocab sense]``"""
    top_ids: np.ndarray
    """The tokens of the senses that speak most, in order."""
    top_senses: np.ndarray
    strings: Mapping[int, str]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("scores", "factors", "top_ids", "top_senses"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def top(self, n: int | None = None) -> tuple[TopicSense, ...]:
        """The senses that speak most for the bag, ``n`` or as many as were asked for."""
        pairs = list(zip(self.top_ids.tolist(), self.top_senses.tolist(), strict=True))
        if n is not None and n > len(pairs):
            raise CallerError(f"{n} senses of {len(pairs)}: ask for more with top={n}")
        return tuple(
            TopicSense(self.strings[id_], id_, sense, float(self.scores[id_, sense]), float(self.factors[id_, sense]))
            for id_, sense in pairs[:n]
        )

    def rows(self) -> list[dict[str, Any]]:
        """A row for each of the senses that speak most, for ``pandas.DataFrame``."""
        return [one._asdict() for one in self.top()]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, but for the whole tables of scores and factors, which stay arrays."""
        return {
            "bag": [{"text": word.text, "ids": list(word.ids), "pieces": word.pieces} for word in self.bag],
            "formula": self.formula,
            "quantiles": list(self.quantiles),
            "strengths": list(self.strengths),
            "top": [one._asdict() for one in self.top()],
            "scaled": plain(np.array(self._scaled)),
            "info": dict(self.info),
        }

    @property
    def _scaled(self) -> list[float]:
        """The share of senses that have each factor other than 1."""
        return [float((self.factors == np.float32(one)).mean()) for one in sorted({*self.strengths} - {1.0})]

    def _heading(self) -> str:
        return f"senses that speak for {', '.join(word.text for word in self.bag)}"

    def _note(self) -> str:
        most = "largest logit" if self.formula == "code" else "largest absolute logit"
        bands = "/".join(f"{one:g}" for one in self.strengths)
        return (
            f"scores: the bag's logits over the {most} of the sense; factors {bands} above {self._cuts} of all scores"
        )

    @property
    def _cuts(self) -> str:
        return "/".join(f"{one:.0%}" for one in self.quantiles)

    def _body(self) -> str:
        used = scale([np.array([one.score for one in self.top()])])
        rows = [
            f"<tr><th>{label_html(one.token)}</th><td>{one.sense}</td>{cell_html(one.score, used)}"
            f"<td>{one.factor:g}</td></tr>"
            for one in self.top()
        ]
        return f'<p class="note">{self._note()}</p>' + table_html(["token", "sense", "score", "factor"], rows)

    def _rendered(self, width: int) -> RenderableType:
        used = scale([np.array([one.score for one in self.top()])])
        table = Table("token", "sense", "score", "factor", box=box.SIMPLE_HEAD)
        for one in self.top():
            score = Text(used.written(one.score), used.style(one.score))
            table.add_row(label(one.token), str(one.sense), score, f"{one.factor:g}")
        return Group(Text(self._heading(), "bold").append(f"  {self._note()}", "not bold dim"), table)
