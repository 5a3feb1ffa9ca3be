"""What an edit would do, sense by sense."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from interpd_backpack.edits.edit import Edit
from interpd_backpack.edits.operations import MaskWeights, Topic
from interpd_backpack.edits.places import Token
from interpd_backpack.views import Shown
from interpd_backpack.views.colours import scale
from interpd_backpack.views.tables import table_html, words_html, words_text


@dataclass(frozen=True)
class MovedSense:
    """A sense that an edit changes."""

    token: Token
    sense: int
    norm: float
    """Of the sense vector before."""
    change: float
    """The norm of what is added to it."""
    more: tuple[tuple[Token, float], ...]
    """The words whose logits rise most at weight 1, and by how much."""
    less: tuple[tuple[Token, float], ...]
    """The words whose logits fall most."""


@dataclass(frozen=True, repr=False)
class DryRun(Shown):
    """The senses that an edit changes, and the words that each then speaks more for and more against."""

    edit: Edit
    moved: tuple[MovedSense, ...]
    """By token, then by sense; those that stay as they are left out."""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the edit does besides, to weights and logits of texts."""
        return tuple(
            one.describe()
            for one in self.edit.operations
            if (isinstance(one, Topic) and one.anneal)
            or (isinstance(one, MaskWeights) and (one.tokens is None or one.negative_only is not None))
        )

    def rows(self) -> list[dict[str, Any]]:
        """A row for each sense, for ``pandas.DataFrame``."""
        return [
            {
                "token": one.token.text,
                "id": one.token.id,
                "sense": one.sense,
                "norm": one.norm,
                "change": one.change,
                "more": [token.text for token, _ in one.more],
                "less": [token.text for token, _ in one.less],
            }
            for one in self.moved
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""

        def ranked(words: tuple[tuple[Token, float], ...]) -> list[list[Any]]:
            return [[token.id, token.text, change] for token, change in words]

        rows = [
            {**row, "more": ranked(one.more), "less": ranked(one.less)}
            for row, one in zip(self.rows(), self.moved, strict=True)
        ]
        return {"edit": self.edit.to_json(), "moved": rows, "left_out": list(self.left_out), "info": dict(self.info)}

    def _heading(self) -> str:
        n = len(self.moved)
        return f"what the edit {self.edit.name!r} does to {n} sense{'s' * (n != 1)}"

    def _used(self) -> Any:
        return scale((np.array([change for one in self.moved for _, change in (*one.more, *one.less)]),))

    def _lines(self) -> Iterator[tuple[str, str, str, list[tuple[str, float]], list[tuple[str, float]]]]:
        for one in self.moved:
            ends = ([(token.text, change) for token, change in words] for words in (one.more, one.less))
            yield (str(one.token), str(one.sense), f"{one.change:.3g} of {one.norm:.3g}", *ends)

    def _notes(self) -> str:
        return "not shown: " + "; ".join(self.left_out) if self.left_out else ""

    def _body(self) -> str:
        used = self._used()
        rows = [
            f"<tr><th>{escape(token)}</th><td>{sense}</td><td>{change}</td>"
            f'<td class="w">{words_html(more, used)}</td><td class="w">{words_html(less, used)}</td></tr>'
            for token, sense, change, more, less in self._lines()
        ]
        table = table_html(["", "sense", "change", "speaks more for", "speaks more against"], rows)
        note = f'<p class="note">{escape(self._notes())}</p>' if self.left_out else ""
        return table + note

    def _rendered(self, width: int) -> RenderableType:
        used = self._used()
        table = Table(
            "token", "sense", "change", "speaks more for", "speaks more against", width=width, box=SIMPLE_HEAD
        )
        for token, sense, change, more, less in self._lines():
            table.add_row(token, sense, change, words_text(more, used), words_text(less, used))
        notes = [Text(self._notes(), "dim")] if self.left_out else []
        return Group(Text(self._heading(), "bold").append(f"  {used.said()}", "not bold dim"), *notes, table)
