"""Predictions before and after edits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
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
from interpd_backpack.views.tables import table_html, words_html, words_text
from interpd_backpack.words import Word

N_SHOWN = 12
"""Predictions that are drawn; the others are counted."""
LEAST_SHOWN = 0.001
"""Tokens whose probability moves by less are counted."""
TARGETS_SHOWN = 8
"""Columns of targets; more are in the arrays."""
ARRAYS = (
    "logits_before",
    "logits_after",
    "log_p_before",
    "log_p_after",
    "kl",
    "moved_ids",
    "moved_before",
    "moved_after",
)


@dataclass(frozen=True)
class Item:
    """A prediction: the next token behind a position of a prompt."""

    prompt: int
    """The number of the prompt."""
    position: int
    ids: tuple[int, ...]
    """The tokens up to it."""
    strings: tuple[str, ...]
    """What each makes of the prompt's text."""

    def __str__(self) -> str:
        return "".join(self.strings)


class Moved(NamedTuple):
    """A token whose probability moved."""

    token: str
    id: int
    before: float
    """Its probability."""
    after: float


class Collateral(NamedTuple):
    """What an edit does to predictions as a whole."""

    edit: str
    mean_kl: float
    """KL(before || after), nats."""
    median_kl: float
    largest_kl: float
    at: Item
    """Where it is largest."""


@dataclass(frozen=True, eq=False, repr=False)
class Effects(Shown):
    """Predictions before and after each of several edits, all from one forward pass.

    With ``only_logits`` what is not the logit of a target is NaN or empty.
    """

    edits: tuple[str, ...]
    """Their names."""
    digests: tuple[str, ...]
    items: tuple[Item, ...]
    targets: tuple[Word, ...]
    logits_before: np.ndarray
    """``[item target]``"""
    logits_after: np.ndarray
    """``[edit item target]``"""
    log_p_before: np.ndarray
    """``[item target]``: over all logits of the model."""
    log_p_after: np.ndarray
    """``[edit item target]``"""
    kl: np.ndarray
    """``[edit item]``: KL(before || after) of the next token, in nats."""
    moved_ids: np.ndarray
    """``[edit item top]``: the tokens whose probability moves most, either way."""
    moved_before: np.ndarray
    """``[edit item top]``: their log-probabilities."""
    moved_after: np.ndarray
    strings: Mapping[int, str] = field(default_factory=dict)
    """The tokens that move, by id."""
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ARRAYS:
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def moved(self, edit: int | str = 0, item: int = 0) -> tuple[Moved, ...]:
        """The tokens whose probability an edit moves most at a prediction."""
        place = self._place(edit)
        ids = self.moved_ids[place, item].tolist()
        before, after = np.exp(self.moved_before[place, item]), np.exp(self.moved_after[place, item])
        return tuple(
            Moved(self.strings[id_], id_, float(p), float(q)) for id_, p, q in zip(ids, before, after, strict=True)
        )

    def collateral(self) -> tuple[Collateral, ...]:
        """For each edit the change of the predictions as a whole, over all of them."""
        return tuple(
            Collateral(name, float(kl.mean()), float(np.median(kl)), float(kl.max()), self.items[int(kl.argmax())])
            for name, kl in zip(self.edits, self.kl, strict=True)
        )

    def rows(self) -> list[dict[str, Any]]:
        """A row for each edit, prediction and target, for ``pandas.DataFrame``; without targets for each token that
        moves most.
        """
        if not self.targets:
            return self._rows_of_moved()
        return [
            {
                "edit": name,
                "prompt": item.prompt,
                "position": item.position,
                "target": word.text,
                "id": word.ids[0],
                "logit_before": float(self.logits_before[number, column]),
                "logit_after": float(self.logits_after[place, number, column]),
                "log_p_before": float(self.log_p_before[number, column]),
                "log_p_after": float(self.log_p_after[place, number, column]),
                "kl": float(self.kl[place, number]),
            }
            for place, name in enumerate(self.edits)
            for number, item in enumerate(self.items)
            for column, word in enumerate(self.targets)
        ]

    def _rows_of_moved(self) -> list[dict[str, Any]]:
        return [
            {
                "edit": name,
                "prompt": item.prompt,
                "position": item.position,
                "target": self.strings[id_].strip(),
                "id": id_,
                "log_p_before": before,
                "log_p_after": after,
                "kl": float(self.kl[place, number]),
            }
            for place, name in enumerate(self.edits)
            for number, item in enumerate(self.items)
            for id_, before, after in zip(
                self.moved_ids[place, number].tolist(),
                self.moved_before[place, number].tolist(),
                self.moved_after[place, number].tolist(),
                strict=True,
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "edits": list(self.edits),
            "digests": list(self.digests),
            "items": [
                {"prompt": one.prompt, "position": one.position, "ids": list(one.ids), "strings": list(one.strings)}
                for one in self.items
            ],
            "targets": [{"text": word.text, "id": word.ids[0], "pieces": word.pieces} for word in self.targets],
            **{name: plain(getattr(self, name)) for name in ARRAYS},
            "strings": {str(id_): text for id_, text in self.strings.items()},
            "info": dict(self.info),
        }

    def _place(self, edit: int | str) -> int:
        if isinstance(edit, int):
            return range(len(self.edits))[edit]
        if edit not in self.edits:
            raise CallerError(f"there is no edit {edit!r}; there are {', '.join(map(repr, self.edits))}")
        return self.edits.index(edit)

    def _heading(self) -> str:
        n, m = len(self.edits), len(self.items)
        return f"{n} edit{'s'[: n != 1]} at {m} prediction{'s'[: m != 1]}"

    @property
    def _is_of_logits(self) -> bool:
        return bool(np.isnan(self.kl).all())

    def _changes(self) -> np.ndarray:
        """``[edit item target]``: what is shown of targets."""
        if self._is_of_logits:
            return self.logits_after - self.logits_before
        return np.exp(self.log_p_after) - np.exp(self.log_p_before)

    def _written(self, place: int, number: int, column: int) -> str:
        if self._is_of_logits:
            before, after = self.logits_before[number, column], self.logits_after[place, number, column]
            return f"{before:.2f} → {after:.2f}"
        before, after = np.exp(self.log_p_before[number, column]), np.exp(self.log_p_after[place, number, column])
        return f"{_percent(before)} → {_percent(after)}"

    def _weighed(self, place: int, number: int) -> list[tuple[str, float]]:
        """The tokens that are shown: those that move by something, and the first in any case."""
        moved = [(one.token, one.after - one.before) for one in self.moved(place, number)]
        return [pair for rank, pair in enumerate(moved) if rank == 0 or abs(pair[1]) >= LEAST_SHOWN]

    def _left_out(self, place: int, number: int) -> str:
        n = self.moved_ids.shape[-1] - len(self._weighed(place, number))
        return f"{n} more by less than {LEAST_SHOWN:g}" if n else ""

    def _note(self) -> str:
        left = len(self.items) - N_SHOWN
        what = "logits" if self._is_of_logits else "probabilities"
        more = f"; {left} more predictions are not drawn" if left > 0 else ""
        return f"{what} before → after; moved: change of the probability{more}"

    def _body(self) -> str:
        changes, shown = self._changes(), self.targets[:TARGETS_SHOWN]
        used, words = scale((changes[..., : len(shown)],)), scale([self._all_moved()])
        parts = [f'<p class="note">{escape(self._note())}</p>']
        head = ["edit", "KL", *(label_html(word.text) for word in shown), "moved"]
        for number, item in enumerate(self.items[:N_SHOWN]):
            body = []
            for place, name in enumerate(self.edits):
                cells = "".join(
                    f"<td{used.painted(float(change))}>{self._written(place, number, column)}</td>"
                    for column, change in enumerate(changes[place, number, : len(shown)])
                )
                moved = words_html(self._weighed(place, number), words, numbers=True)
                moved += f" <i>{self._left_out(place, number)}</i>"
                kl = f"<td>{_small(self.kl[place, number])}</td>"
                body.append(f'<tr><th>{escape(name)}</th>{kl}{cells}<td class="w">{moved}</td></tr>')
            parts.append(f"<h4>{escape(str(item))}</h4>{table_html(head, body)}")
        return "".join(parts)

    def _rendered(self, width: int) -> RenderableType:
        changes, shown = self._changes(), self.targets[:TARGETS_SHOWN]
        used, words = scale((changes[..., : len(shown)],)), scale([self._all_moved()])
        parts: list[RenderableType] = [Text(self._heading(), "bold").append(f"  {self._note()}", "not bold dim")]
        for number, item in enumerate(self.items[:N_SHOWN]):
            table = Table(box=box.SIMPLE_HEAD, title=Text(str(item)), title_justify="left")
            for head in ("edit", "KL", *(label(word.text) for word in shown), "moved"):
                table.add_column(head)
            for place, name in enumerate(self.edits):
                table.add_row(
                    name,
                    _small(self.kl[place, number]),
                    *self._cells(place, number, changes, used),
                    words_text(self._weighed(place, number), words).append(
                        f"  {self._left_out(place, number)}".rstrip(), "dim"
                    ),
                )
            parts.append(table)
        return Group(*parts)

    def _cells(self, place: int, number: int, changes: np.ndarray, used: Scale) -> list[Text]:
        return [
            Text(self._written(place, number, column), used.style(float(changes[place, number, column])))
            for column in range(min(len(self.targets), TARGETS_SHOWN))
        ]

    def _all_moved(self) -> np.ndarray:
        return np.exp(self.moved_after) - np.exp(self.moved_before)


def _percent(p: float) -> str:
    return f"{100 * p:.1f} %" if p >= 0.0995 else f"{100 * p:.2g} %"


def _small(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2g}"
