"""How evaluations ask a model: tokens of texts, -log p of tokens, with an edit in force or without."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, Progress, Tokens
from interpd_backpack.evaluation.long_texts import long_text_ids
from interpd_backpack.words import unknown_token
from interpd_client import Model

TOKENS_AT_ONCE = 1 << 14
"""Tokens of one request, padding included: minutes of the published model on a few cores, within any deadline."""
ASKED_AT_ONCE = 8
"""Texts whose tokens are asked for at the same time."""

Told = Callable[[float, float, str], object]
"""Is told how far the work is: done, of how much, and what."""
Put = Callable[[Any], object]
"""Puts an edit in force in a trace or in one prompt of it."""


def silent(done: float, total: float, what: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Asking:
    """A model, the edit that it is compared with, and who wants to know how far it is."""

    model: Model
    put: Put | None = None
    """Puts the edit in force; ``None``: the model as it is, nothing is compared."""
    told: Told = field(default=silent, repr=False)

    def tokens(self, texts: Sequence[str], *, special: bool = True) -> list[tuple[int, ...]]:
        """The token ids of each text; ``special``: with what the tokenizer puts around a text of its own."""
        return [found for found, _ in self.tokenized(texts, special=special)]

    def tokenized(self, texts: Sequence[str], *, special: bool = True) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
        """The token ids of each text, and the string of each token."""

        def asked(text: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
            found = self._asked(text, special)
            return found.ids, found.strings

        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="tokenize") as threads:
            return list(threads.map(asked, texts))

    def text_tokens(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """The token ids of a text of any length. Raises ``CallerError``: see ``long_text_ids``."""
        return long_text_ids(self._asked, text, self.model.info.max_positions, special=special)

    def unknown_token(self) -> int | None:
        """The id that stands for what the vocabulary cannot express; ``None`` where there is none."""
        return unknown_token(self.model)

    def surprisals(
        self, sequences: Sequence[Sequence[int]], *, edited: bool = False, what: str = "texts"
    ) -> list[np.ndarray]:
        """-log p of each token of each sequence given those before it, in nats; the first has 0.

        ``edited``: with the edit in force.
        """
        if empty := [number for number, ids in enumerate(sequences) if not len(ids)]:
            raise CallerError(f"text {empty[0]} has no tokens")
        found: list[np.ndarray] = []
        for part in _parts([len(ids) for ids in sequences]):
            rows = [np.asarray(ids, np.int64) for ids in sequences[part]]
            found += self._surprisals(rows, edited, partial(self._tell, len(sequences), what, len(found)))
        return found

    def _asked(self, text: str, special: bool) -> Tokens:
        return self.model.tokenize(Prompt(text=text, add_special_tokens=special))

    def _surprisals(self, rows: list[np.ndarray], edited: bool, told: Callable[[float], object]) -> list[np.ndarray]:
        lengths = tuple(len(row) for row in rows)
        table = np.zeros((len(rows), max(lengths)), np.int64)
        for number, row in enumerate(rows):
            table[number, : len(row)] = row
        # the node belongs to a prompt, which has the positions that all rows have: an edit may be about them
        prompt = min(rows, key=len)[: self.model.info.max_positions or None]
        t = self.model.trace(prompt, progress=False)
        if edited and self.put is not None:
            self.put(t)
        t.save(found=t.op("backpack.surprisals", table, lengths=lengths))

        def heard(event: Event) -> None:
            if isinstance(event, Progress):
                told(event.done)

        found = t.submit().result(heard)["found"]
        return [found[number, :length] for number, length in enumerate(lengths)]

    def _tell(self, total: int, what: str, before: int, done: float) -> None:
        self.told(before + done, total, what)


def _parts(lengths: Sequence[int]) -> Iterator[slice]:
    """Sequences in runs of at most ``TOKENS_AT_ONCE`` tokens, padding included."""
    start, longest = 0, 0
    for number, length in enumerate(lengths):
        longest = max(longest, length)
        if number > start and longest * (number - start + 1) > TOKENS_AT_ONCE:
            yield slice(start, number)
            start, longest = number, length
    if lengths:
        yield slice(start, len(lengths))


@dataclass(frozen=True)
class Window:
    """A piece of a text that the model takes at once."""

    ids: tuple[int, ...]
    n_context: int
    """Tokens at its beginning that are there to be seen and are not scored."""


def windows(ids: Sequence[int], size: int, stride: int) -> list[Window]:
    """A text in pieces of at most ``size`` tokens, each ``stride`` behind the one before.

    Every token but the first of the text is scored once, in the first window that has it (the last token of a text may
    be the only new one). With ``stride`` below ``size`` all have at least ``size - stride`` tokens before them; with
    ``stride`` equal to ``size`` the first token of each window has none and is not scored.

    Raises:
        CallerError: ``stride`` is not 1 to ``size``, or ``size`` is below 2.
    """
    if size < 2 or not 1 <= stride <= size:
        raise CallerError(f"windows of {size} tokens with a stride of {stride}: expected 2 or more, and 1 to the size")
    found, scored = [], 0
    for start in range(0, max(1, len(ids)), stride):
        end = min(start + size, len(ids))
        found.append(Window(tuple(ids[start:end]), max(1, scored - start)))
        scored = end
        if end == len(ids):
            break
    return found
