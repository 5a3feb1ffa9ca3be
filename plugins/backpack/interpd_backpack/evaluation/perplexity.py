"""Held-out perplexity, before and after an edit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.evaluation.asking import Asking, Window, windows
from interpd_backpack.evaluation.files import Document, read_documents
from interpd_backpack.evaluation.sections import Section, Table, plain
from interpd_backpack.evaluation.statistics import perplexity

BALLS = (1e-3, 1e-4, 1e-5)
"""How much worse an edit may make general text, as a share of its mean -log p (2402.06155)."""
FREE_WINDOW = 1024
"""Tokens of a window where a model knows no limit."""


@dataclass(frozen=True, kw_only=True)
class PerplexitySettings:
    """What perplexity is measured on, and how.

    Args:
        texts: Files: a text each, or JSON Lines of ``{"text": ...}``; or texts themselves, as ``documents``.
        documents: Texts.
        window: Tokens that the model sees at once; ``None``: as many as it takes.
        stride: How far a window is behind the one before; ``None``: its own size, so that windows do not overlap.
        special: Whether the tokenizer adds what it puts around texts.
    """

    texts: tuple[str | Path, ...] = ()
    documents: tuple[str, ...] = ()
    window: int | None = None
    stride: int | None = None
    special: bool = True

    def all_documents(self) -> tuple[Document, ...]:
        """The texts, those of the files first. Raises ``CallerError`` where there is none."""
        given = tuple(Document(f"text {number}", text) for number, text in enumerate(self.documents))
        found = read_documents(self.texts) + given
        if not found:
            raise CallerError("there is no text to measure perplexity on: give files, or texts as documents")
        return found


@dataclass(frozen=True)
class Text:
    """What became of one text."""

    name: str
    n_tokens: int
    surprisals: np.ndarray
    """-log p of the scored tokens, in nats."""
    edited: np.ndarray | None
    """The same under the edit."""


@dataclass(frozen=True)
class Perplexity:
    """-log p of every scored token of some texts, before and after an edit."""

    texts: tuple[Text, ...]
    window: int
    stride: int
    ball: tuple[float, ...] = field(default=BALLS)

    @cached_property
    def surprisals(self) -> np.ndarray:
        """Those of all texts, ``[token]``."""
        return np.concatenate([text.surprisals for text in self.texts])

    @cached_property
    def edited(self) -> np.ndarray | None:
        """Those under the edit, ``[token]``; ``None`` without one."""
        parts = [text.edited for text in self.texts if text.edited is not None]
        return np.concatenate(parts) if parts else None

    @property
    def before(self) -> float:
        """The perplexity of the model as it is."""
        return perplexity(self.surprisals)

    @property
    def after(self) -> float | None:
        """The perplexity under the edit."""
        return None if self.edited is None else perplexity(self.edited)

    @property
    def degradation(self) -> float | None:
        """E[-log p] under the edit over E[-log p] without it, less one: in ``B_epsilon`` where at most epsilon."""
        if self.edited is None:
            return None
        return float(self.edited.mean() / self.surprisals.mean() - 1)

    def is_inside(self, ball: float) -> bool:
        """Whether the edit stays in the ball of degradation ``B_ball``. Raises ``CallerError`` without an edit."""
        if self.degradation is None:
            raise CallerError("there is no edit whose degradation could be told")
        return self.degradation <= ball

    def section(self) -> Section:
        """Perplexities of each text and of all, and the balls of degradation."""
        files = self._by_file()
        rows = [_row(*one) for one in files[:MOST_TEXTS]]
        n_tokens = sum(text.n_tokens for text in self.texts)
        rows.append(_row("all", n_tokens, self.surprisals, self.edited))
        columns = ("text", "tokens", "scored", "nats per token", "perplexity")
        if self.edited is not None:
            columns += ("nats, edited", "perplexity, edited", "change of nats (%)")
        tables = [Table(columns, tuple(rows))]
        if self.edited is not None:
            inside = tuple((f"{ball:g}", self.is_inside(ball)) for ball in self.ball)
            tables.append(Table(("ball", "inside"), inside, "degradation balls"))
        notes = [f"windows of {self.window} tokens, each {self.stride} behind the one before; perplexity is per token"]
        if len(files) > MOST_TEXTS:
            notes.append(f"{len(files) - MOST_TEXTS} more texts are in the JSON")
        return Section("Held-out perplexity", tuple(tables), notes=tuple(notes))

    def _by_file(self) -> list[tuple[str, int, np.ndarray, np.ndarray | None]]:
        """Name, tokens, and -log p of each file, or text: the texts of a file of many are one row."""
        found: dict[str, list[Text]] = {}
        for text in self.texts:
            found.setdefault(text.name.rpartition(LINE)[0] or text.name, []).append(text)
        bare = [Path(name).name for name in found]
        rows = []
        for name, short in zip(found, bare, strict=True):
            texts = found[name]
            edited = [text.edited for text in texts if text.edited is not None]
            shown = short if bare.count(short) == 1 else name
            rows.append(
                (
                    shown if len(texts) == 1 else f"{shown}, {len(texts)} texts",
                    sum(text.n_tokens for text in texts),
                    np.concatenate([text.surprisals for text in texts]),
                    np.concatenate(edited) if edited else None,
                )
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Means by text; single tokens are in ``surprisals`` and ``edited``."""
        texts = [
            {
                "name": text.name,
                "n_tokens": text.n_tokens,
                "n_scored": len(text.surprisals),
                "nats": text.surprisals.mean() if len(text.surprisals) else None,
                "nats_edited": text.edited.mean() if text.edited is not None and len(text.edited) else None,
            }
            for text in self.texts
        ]
        found = {"texts": texts, "window": self.window, "stride": self.stride, "perplexity": self.before}
        found |= {"perplexity_edited": self.after, "degradation": self.degradation}
        return plain(found)


LINE = ", line "
"""Between a file and the place of a text in it."""
MOST_TEXTS = 20
"""Texts and files with a row of their own in a table."""


def measure_perplexity(asking: Asking, settings: PerplexitySettings) -> Perplexity:
    """The perplexity of the model on texts, and under the edit.

    Raises:
        CallerError: No text, a text without two tokens, or windows that the model does not take.
    """
    documents = settings.all_documents()
    window, stride = sizes(asking, settings)
    ids = [asking.text_tokens(document.text, special=settings.special) for document in documents]
    cut = [windows(one, window, stride) for one in ids]
    if short := [document.name for document, one in zip(documents, ids, strict=True) if len(one) < 2]:
        raise CallerError(f"{short[0]} has less than two tokens: there is nothing to predict")
    flat = [piece for pieces in cut for piece in pieces]
    before = _scored(flat, asking.surprisals([piece.ids for piece in flat], what="windows"))
    after = None
    if asking.put is not None:
        after = _scored(flat, asking.surprisals([piece.ids for piece in flat], edited=True, what="windows, edited"))
    texts, at = [], 0
    for document, one, pieces in zip(documents, ids, cut, strict=True):
        part = slice(at, at + len(pieces))
        edited = None if after is None else np.concatenate(after[part])
        texts.append(Text(document.name, len(one), np.concatenate(before[part]), edited))
        at += len(pieces)
    return Perplexity(tuple(texts), window, stride)


def sizes(asking: Asking, settings: PerplexitySettings) -> tuple[int, int]:
    """Tokens of a window, and of a stride. Raises ``CallerError``."""
    most = asking.model.info.max_positions
    window = settings.window or most or FREE_WINDOW
    if most and window > most:
        raise CallerError(f"windows of {window} tokens: the model takes {most}")
    return window, settings.stride or window


def _scored(pieces: Sequence[Window], found: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [values[piece.n_context :] for piece, values in zip(pieces, found, strict=True)]


def _row(name: str, n_tokens: int, before: np.ndarray, after: np.ndarray | None) -> tuple[Any, ...]:
    row = (name, n_tokens, len(before), float(before.mean()), perplexity(before))
    if after is None:
        return row
    return (*row, float(after.mean()), perplexity(after), float(100 * (after.mean() / before.mean() - 1)))
