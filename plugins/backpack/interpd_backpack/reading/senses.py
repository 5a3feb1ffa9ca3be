"""What the senses of words say: both ends of the vocabulary, and the place of chosen words in it."""

from collections.abc import Mapping, Sequence
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
from interpd_backpack.views.tables import table_html, words_html, words_text
from interpd_backpack.words import Word


class Scored(NamedTuple):
    """A token, and a number."""

    token: str
    id: int
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class SenseWords(Shown):
    """The tokens that each sense of some words says most and least.

    Usually one end or the other means something, and not both (Hewitt et al. 2023, table 19).
    """

    words: tuple[Word, ...]
    """Rows: a word each, or a piece of one."""
    senses: tuple[int, ...]
    by: str
    """``dot`` (the logit that is added at weight 1) or ``cosine``."""
    most_ids: np.ndarray
    """``[word sense top]``, -1 where there is none."""
    most_scores: np.ndarray
    least_ids: np.ndarray
    least_scores: np.ndarray
    lengths: np.ndarray
    """``[word sense]``: norms of the sense vectors."""
    ranked: tuple[Word, ...]
    """Words whose place is told."""
    ranks: np.ndarray
    """``[word sense ranked]``; 1 is the token that is said most."""
    scores: np.ndarray
    """``[word sense ranked]``"""
    among: int
    """Tokens of the vocabulary; padding is not ranked."""
    strings: Mapping[int, str]
    """The tokens that occur, by id."""
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("most_ids", "most_scores", "least_ids", "least_scores", "lengths", "ranks", "scores"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def top(self, sense: int, word: int = 0) -> tuple[Scored, ...]:
        """What a sense says most, the first first. ``word`` is the number of the row."""
        return self._end(self.most_ids, self.most_scores, sense, word)

    def bottom(self, sense: int, word: int = 0) -> tuple[Scored, ...]:
        """What a sense says least, the last first."""
        return self._end(self.least_ids, self.least_scores, sense, word)

    def rank(self, word: str, sense: int, row: int = 0) -> int:
        """The place of one of the ranked words in a sense, 1 for the one that is said most."""
        known = [one.text for one in self.ranked]
        if word.strip() not in known:
            raise CallerError(f"{word!r} was not ranked; there are: {', '.join(known) or 'none'}; give rank_of")
        return int(self.ranks[row, self._column(sense), known.index(word.strip())])

    def rows(self) -> list[dict[str, Any]]:
        """A row for each word, sense, end and token, for ``pandas.DataFrame``."""
        return [
            {"word": word.text, "sense": sense, "end": end, "place": place, **one._asdict()}
            for row, word in enumerate(self.words)
            for sense in self.senses
            for end, found in (("most", self.top(sense, row)), ("least", self.bottom(sense, row)))
            for place, one in enumerate(found, 1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        ends = {name: plain(getattr(self, name)) for name in ("most_ids", "most_scores", "least_ids", "least_scores")}
        return {
            "words": [word_dict(word) for word in self.words],
            "senses": list(self.senses),
            "by": self.by,
            **ends,
            "lengths": plain(self.lengths),
            "ranked": [word_dict(word) for word in self.ranked],
            "ranks": plain(self.ranks),
            "scores": plain(self.scores),
            "among": self.among,
            "strings": {str(id_): text for id_, text in self.strings.items()},
            "info": dict(self.info),
        }

    def _end(self, ids: np.ndarray, scores: np.ndarray, sense: int, row: int) -> tuple[Scored, ...]:
        column = self._column(sense)
        pairs = zip(ids[row, column].tolist(), scores[row, column].tolist(), strict=True)
        return tuple(Scored(self.strings[id_], id_, score) for id_, score in pairs if id_ >= 0)

    def _column(self, sense: int) -> int:
        if sense not in self.senses:
            raise CallerError(f"sense {sense} was not asked for; there are {', '.join(map(str, self.senses))}")
        return self.senses.index(sense)

    def _heading(self) -> str:
        what = "logits at weight 1" if self.by == "dot" else "cosines"
        return f"what the senses of {', '.join(self._shown(self.words))} say of {self.among} tokens: {what}"

    def _shown(self, words: Sequence[Word]) -> list[str]:
        return [shown(word, self.strings) for word in words]

    def _scale(self) -> Scale:
        return scale((self.most_scores, self.least_scores))

    def _ranked(self, row: int, column: int, number: int) -> str:
        return f"{self.ranks[row, column, number]}  ({self.scores[row, column, number]:+.2f})"

    def _body(self) -> str:
        used = self._scale()
        parts = [used.legend_html()]
        ranked = [f"rank of {label_html(text)}" for text in self._shown(self.ranked)]
        for row, word in enumerate(self.words):
            parts.append(f"<h4>{label_html(shown(word, self.strings))} <small>{policy(word)}</small></h4>")
            body = []
            for column, sense in enumerate(self.senses):
                ends = [[(one.token, one.score) for one in end(sense, row)] for end in (self.top, self.bottom)]
                cells = "".join(f'<td class="w">{words_html(end, used)}</td>' for end in ends)
                places = "".join(f"<td>{self._ranked(row, column, number)}</td>" for number in range(len(self.ranked)))
                body.append(f"<tr><th>{sense}</th>{cells}<td>{self.lengths[row, column]:.2f}</td>{places}</tr>")
            parts.append(table_html(["sense", "says most", "says least", "length", *ranked], body))
        return "".join(parts)

    def _rendered(self, width: int) -> RenderableType:
        used = self._scale()
        parts: list[RenderableType] = [Text(self._heading(), "bold").append(f"  {used.said()}", "not bold dim")]
        for row, word in enumerate(self.words):
            places = [f"rank of {text}" for text in self._shown(self.ranked)]
            note = f"{shown(word, self.strings)}  {policy(word)}".rstrip()
            table = Table(
                "sense", "says most", "says least", "length", *places, box=box.SIMPLE_HEAD, title=note,
                title_justify="left", title_style="bold", width=width, show_lines=False,
            )  # fmt: skip
            for column, sense in enumerate(self.senses):
                ends = [[(one.token, one.score) for one in end(sense, row)] for end in (self.top, self.bottom)]
                ranks = [self._ranked(row, column, number) for number in range(len(self.ranked))]
                texts = [words_text(end, used) for end in ends]
                table.add_row(str(sense), *texts, f"{self.lengths[row, column]:.2f}", *ranks)
            parts.append(table)
        return Group(*parts)


def shown(word: Word, strings: Mapping[int, str]) -> str:
    """A word as it is shown: its token with the space before it, so that ``␣he`` is not ``he``; of several the text."""
    return label(strings[word.ids[0]]) if len(word.ids) == 1 else word.text


def policy(word: Word) -> str:
    """What was done with a word's tokens; nothing where it is only one."""
    if word.pieces in ("mean", "sum"):
        return f"{word.pieces} of its {len(word.ids)} tokens"
    return {"first": "its first token", "last": "its last token", "each": "one of its tokens"}.get(word.pieces, "")


def word_dict(word: Word) -> dict[str, Any]:
    """A word as JSON has it."""
    return {"text": word.text, "ids": list(word.ids), "pieces": word.pieces}
