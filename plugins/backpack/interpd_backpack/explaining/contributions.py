"""A prediction, taken apart by position and sense: a map of tokens and senses that adds up to the model's number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from interpd.errors import CallerError
from interpd_backpack.asking import frozen, plain
from interpd_backpack.reading.senses import shown, word_dict
from interpd_backpack.views import Shown
from interpd_backpack.views.colours import Scale, scale
from interpd_backpack.views.labels import label, label_html
from interpd_backpack.views.tables import cell_html, grids, table_html
from interpd_backpack.words import Word

Quantity = Literal["logit", "difference", "log_probability"]

_ARRAYS = ("contributions", "says", "weights")


class Part(NamedTuple):
    """What one sense of one token contributes."""

    position: int
    token: str
    id: int
    sense: int
    contribution: float
    """scale * weight * says"""
    weight: float
    """Its sense weight."""
    says: float
    """What it would add at weight 1."""


@dataclass(frozen=True, eq=False, repr=False)
class Contributions(Shown):
    """What adds up to one number of a prediction, to rounding: ``contributions.sum() + base + residual == value``."""

    quantity: Quantity
    target: Word
    """The token that is explained."""
    against: Word | None
    """The other one, of a difference."""
    position: int
    """The position that predicts."""
    ids: tuple[int, ...]
    """The tokens up to it."""
    strings: tuple[str, ...]
    predicted: Mapping[int, str]
    """The text of ``target`` and ``against``, by id."""
    contributions: np.ndarray
    """``[pos sense]``, float64."""
    says: np.ndarray
    """``[pos sense]``: what each sense would add at weight 1."""
    weights: np.ndarray
    """``[pos sense]``: sense weights, as they were in force."""
    scale: float
    """The model's factor of the sum."""
    base: float
    """What comes from elsewhere: the base stream of a retrofitted model."""
    value: float
    """The number, from the model's own logits."""
    residual: float
    """value - contributions - base: rounding, and the proof that nothing is missing."""
    log_probability: float
    """Of the target; where ``quantity`` is ``log_probability``, value - entropy."""
    entropy: float
    """Of the prediction, in nats."""
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def by_token(self) -> np.ndarray:
        """``[pos]``: what each token adds, all its senses together."""
        return self.contributions.sum(1)

    def by_sense(self) -> np.ndarray:
        """``[sense]``: what each sense index adds, over all tokens."""
        return self.contributions.sum(0)

    def top(self, n: int = 10, end: Literal["both", "most", "least"] = "both") -> tuple[Part, ...]:
        """The strongest parts: by magnitude, or the largest or smallest first."""
        if n < 1:
            raise CallerError(f"n is {n}, expected 1 or more")
        if end not in ("both", "most", "least"):
            raise CallerError(f"end is {end!r}, expected both, most or least")
        flat = self.contributions.ravel()
        keys = {"both": -np.abs(flat), "most": -flat, "least": flat}[end]
        n_senses = self.contributions.shape[1]
        return tuple(self._part(*divmod(int(at), n_senses)) for at in np.argsort(keys, kind="stable")[:n])

    def rows(self) -> list[dict[str, Any]]:
        """A row for each position and sense, for ``pandas.DataFrame``."""
        n_pos, n_senses = self.contributions.shape
        return [self._part(pos, sense)._asdict() for pos in range(n_pos) for sense in range(n_senses)]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        numbers = ("scale", "base", "value", "residual", "log_probability", "entropy")
        return {
            "quantity": self.quantity,
            "target": word_dict(self.target),
            "against": None if self.against is None else word_dict(self.against),
            "position": self.position,
            "ids": list(self.ids),
            "strings": list(self.strings),
            "predicted": {str(id_): text for id_, text in self.predicted.items()},
            **{name: plain(getattr(self, name)) for name in _ARRAYS},
            **{name: getattr(self, name) for name in numbers},
            "info": dict(self.info),
        }

    def _part(self, position: int, sense: int) -> Part:
        found = (float(getattr(self, name)[position, sense]) for name in ("contributions", "weights", "says"))
        return Part(position, self.strings[position], self.ids[position], sense, *found)

    def _heading(self) -> str:
        what = number_said(self.quantity, self.target, self.against, self.predicted)
        return f"{what} at position {self.position}, by token and sense: {self.value:.4g}"

    def _proof(self) -> str:
        base = f" and {self.base:.4g} from elsewhere" if self.base else ""
        return (
            f"the parts add up to {self.value - self.residual - self.base:.6g}{base}, the model has {self.value:.6g} "
            f"(residual {self.residual:.1e}); log p = {self.log_probability:.4g}"
        )

    def _scales(self) -> tuple[Scale, Scale]:
        sums = (self.by_token(), self.by_sense(), np.array([self.base, self.contributions.sum()]))
        return scale((self.contributions,)), scale(sums)

    def _body(self) -> str:
        used, of_sums = self._scales()
        head = ["<i>↓ tokens, → senses</i>", *map(str, range(self.contributions.shape[1])), "all senses"]
        body = []
        for pos, values in enumerate(self.contributions.tolist()):
            cells = [cell_html(value, used, self._hover(pos, sense)) for sense, value in enumerate(values)]
            whole = cell_html(float(self.by_token()[pos]), of_sums, extra="t")
            name = f"<i>{pos}</i> {label_html(self.strings[pos])}"
            body.append(f"<tr><th>{name}</th>{''.join(cells)}{whole}</tr>")
        sums = "".join(cell_html(value, of_sums) for value in self.by_sense().tolist())
        total = cell_html(float(self.contributions.sum()), of_sums, extra="t")
        body.append(f'<tr class="t"><th>all tokens</th>{sums}{total}</tr>')
        if self.base:
            empty = '<td class="x"></td>' * self.contributions.shape[1]
            body.append(f"<tr><th>elsewhere</th>{empty}{cell_html(self.base, of_sums, extra='t')}</tr>")
        legends = f'{used.legend_html()}<p class="note">sums at the edges:</p>{of_sums.legend_html()}'
        return f'{legends}<p class="note">{self._proof()}</p>{table_html(head, body)}'

    def _hover(self, pos: int, sense: int) -> str:
        one = self._part(pos, sense)
        says = f"says {one.says:.4g}, weight {one.weight:.4g}"
        return f"sense {sense} of {label(one.token)}: {one.contribution:.6g} ({says})"

    def _rendered(self, width: int) -> RenderableType:
        used, of_sums = self._scales()
        cells = [
            [*((used.written(value), used.style(value)) for value in values), _cell(total, of_sums)]
            for values, total in zip(self.contributions.tolist(), self.by_token().tolist(), strict=True)
        ]
        last = [_cell(value, of_sums) for value in (*self.by_sense().tolist(), float(self.contributions.sum()))]
        names = [f"{pos} {label(text)}" for pos, text in enumerate(self.strings)]
        rows = [*names, "all tokens"]
        if self.base:
            rows.append("elsewhere")
            cells = [*cells, last, [("", "")] * self.contributions.shape[1] + [_cell(self.base, of_sums)]]
        else:
            cells = [*cells, last]
        columns = [*map(str, range(self.contributions.shape[1])), "all"]
        heading = Text(self._heading(), "bold").append(f"  {used.said()}; sums {of_sums.said()}", "not bold dim")
        return Group(heading, Text(self._proof(), "dim"), *grids(rows, columns, cells, width))


def number_said(quantity: Quantity, target: Word | None, against: Word | None, strings: Mapping[int, str]) -> str:
    """Which number is taken apart, in words."""
    word = "the most likely token" if target is None else shown(target, strings)
    if against is not None:
        return f"logit of {word} - that of {shown(against, strings)}"
    return f"{'logit' if quantity == 'logit' else 'centred log-probability'} of {word}"


def _cell(value: float, used: Scale) -> tuple[str, Any]:
    return used.written(value), used.style(value)
