"""Prompts with words put in, and how log ratios behind them move with the scales of the words' senses."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.asking import Said, Write, ask
from interpd_backpack.edits import Edit
from interpd_backpack.edits.asking import write_of
from interpd_backpack.finding.solving import Numbers, Optimum, best_factor, best_of_grid, bias
from interpd_backpack.words import Pieces, Word, word
from interpd_client import Model

Side = str | int | Sequence[str | int]
"""A word, a token id, or several that count together."""

PLACEHOLDER = "{}"
"""Where the word stands in a prompt."""
ASKED_AT_ONCE = 8
"""Texts whose tokens are asked for at the same time."""
BOUNDS = (-10.0, 10.0)
"""Where the factor is looked for when a side has several tokens, and nobody says where."""
Under = Write | Edit
"""What is in force: an edit, or a function that records writes in a trace."""
SCALABLE = ("refuse", "first", "last", "each")
"""Policies by which a word has tokens whose senses can be scaled."""


@dataclass(frozen=True)
class Pair:
    """Two sides whose probabilities are compared."""

    first: tuple[Word, ...]
    second: tuple[Word, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens of both sides, those of the first one first."""
        return tuple(word.ids[0] for word in (*self.first, *self.second))

    def __str__(self) -> str:
        return " / ".join("+".join(word.text for word in side) for side in (self.first, self.second))


@dataclass(frozen=True, eq=False)
class Cases:
    """Every word in every prompt: logits of the two sides, and what a factor of each sense of the word adds to them."""

    words: tuple[Word, ...]
    prompts: tuple[str, ...]
    pair: Pair
    logits: Numbers
    """``[word prompt target]``, targets as in ``pair.ids``."""
    slopes: Numbers
    """``[word prompt sense target]``: added to the logits by each unit that is added to the sense's factor."""
    info: Said
    """How they came about."""

    @property
    def n_senses(self) -> int:
        """k."""
        return self.slopes.shape[2]

    def log_ratios(self, word: int, sense: int, factors: Numbers) -> Numbers:
        """log p(first) / p(second), ``[factor prompt]``, with one sense of one word scaled by each factor."""
        steps = np.asarray(factors, dtype=np.float64).reshape(-1, 1, 1) - 1
        moved = self.logits[word] + steps * self.slopes[word, :, sense]
        n_first = len(self.pair.first)
        return _log_sum(moved[..., :n_first]) - _log_sum(moved[..., n_first:])

    def bias(self, word: int, sense: int, factors: Numbers) -> Numbers:
        """The mean over prompts of max(r, 1/r), ``[factor]``."""
        with np.errstate(over="ignore"):
            return bias(self.log_ratios(word, sense, factors))

    def biases(self, factor: float) -> Numbers:
        """The bias with each sense of each word scaled by ``factor``, ``[word sense]``."""
        factors = np.array([factor])
        return np.array(
            [[self.bias(word, sense, factors)[0] for sense in range(self.n_senses)] for word in range(len(self.words))]
        )

    @property
    def base(self) -> Numbers:
        """The bias of each word as it is."""
        return self.biases(1.0)[:, 0]

    def best(self, word: int, sense: int, *, penalty: float, bounds: tuple[float, float] | None) -> Optimum:
        """The factor of a sense of a word with the least bias plus ``penalty * |factor - 1|``."""
        if len(self.pair.first) == len(self.pair.second) == 1:
            offsets = self.logits[word, :, 0] - self.logits[word, :, 1]
            slopes = self.slopes[word, :, sense, 0] - self.slopes[word, :, sense, 1]
            return best_factor(offsets, slopes, penalty=penalty, bounds=bounds or (-math.inf, math.inf))

        def objective(factors: Numbers) -> Numbers:
            return self.bias(word, sense, factors) + penalty * np.abs(factors - 1)

        return best_of_grid(objective, bounds or BOUNDS)

    def index_of(self, text: str) -> int:
        """Which word ``text`` is. Raises ``CallerError``."""
        known = [word.text for word in self.words]
        if text.strip() not in known:
            raise CallerError(f"the word {text!r} is none of {', '.join(known)}")
        return known.index(text.strip())

    def checked_sense(self, sense: int) -> int:
        """``sense``. Raises ``CallerError`` where there is none of that number."""
        if not 0 <= sense < self.n_senses:
            raise CallerError(f"there is no sense {sense}; there are 0 to {self.n_senses - 1}")
        return sense


@dataclass(frozen=True)
class How:
    """How a model is asked about words."""

    pieces: Pieces = "refuse"
    """What is done with words of several tokens; ``each`` scales all of them together."""
    under: Under | None = None
    """What is in force."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Options of requests."""


def pair_of(model: Model, pair: tuple[Side, Side]) -> Pair:
    """The tokens of both sides. Raises ``CallerError`` for words of several tokens, and for tokens on both sides."""
    if isinstance(pair, str) or len(pair) != 2:
        raise CallerError(f"pair is {pair!r}, expected two sides, such as ('he', 'she')")
    first, second = (
        tuple(word(model, one) for one in ((side,) if isinstance(side, (str, int)) else side)) for side in pair
    )
    found = Pair(first, second)
    if not (first and second) or len(set(found.ids)) < len(found.ids):
        raise CallerError(f"pair is {pair!r}, expected two sides that have no token in common, and each one at least")
    return found


@dataclass(frozen=True)
class AskedPrompts:
    """Every word in every prompt, as tokens."""

    words: tuple[Word, ...]
    pair: Pair
    sequences: tuple[tuple[int, ...], ...]
    """Words one behind the other, each in all prompts."""
    owners: tuple[Word, ...]
    """The word of each sequence."""


def asked_prompts(
    model: Model, words: Sequence[str | int], prompts: Sequence[str], pair: tuple[Side, Side], how: How
) -> AskedPrompts:
    """The tokens of every word in every prompt.

    Raises:
        CallerError: No words or prompts, a prompt without ``{}``, a word that its prompt does not show as its token.
    """
    if how.pieces not in SCALABLE:
        raise CallerError(f"pieces is {how.pieces!r}: a word is changed token by token, expected {', '.join(SCALABLE)}")
    if not words or not prompts:
        raise CallerError("expected one word and one prompt at least")
    if bad := [prompt for prompt in prompts if PLACEHOLDER not in prompt]:
        raise CallerError(f"the prompt {bad[0]!r} has no place for the word: write {PLACEHOLDER} there")
    sides = pair_of(model, pair)
    found = tuple(word(model, one, how.pieces) for one in words)
    texts = [prompt.replace(PLACEHOLDER, one.text) for one in found for prompt in prompts]
    with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="tokenize") as threads:
        sequences = list(threads.map(lambda text: model.tokenize(text).ids, texts))
    owners = tuple(one for one in found for _ in prompts)
    for text, ids, one in zip(texts, sequences, owners, strict=True):
        if not set(one.ids) & set(ids):
            raise CallerError(
                f"the prompt {text!r} does not have {one.text!r} as its token (ids {list(one.ids)}): put it in the "
                "middle of the prompt, behind a space"
            )
    return AskedPrompts(found, sides, tuple(sequences), owners)


def cases(model: Model, words: Sequence[str | int], prompts: Sequence[str], pair: tuple[Side, Side], how: How) -> Cases:
    """What one forward pass over every word in every prompt tells of all factors. Raises as ``asked_prompts``."""
    asked = asked_prompts(model, words, prompts, pair, how)
    constants = {
        "ids": padded(asked.sequences, 0),
        "scaled": padded([one.ids for one in asked.owners], -1),
        "targets": np.array(asked.pair.ids, dtype=np.int64),
        "lengths": tuple(map(len, asked.sequences)),
    }
    answer = ask(
        model, "backpack.slopes", list(asked.sequences[0]), constants, how.run, write=write_of(model, how.under)
    )
    shape = (len(asked.words), len(prompts))
    logits, slopes = answer.values.logits, answer.values.slopes
    return Cases(
        asked.words,
        tuple(prompts),
        asked.pair,
        logits.reshape(*shape, -1),
        slopes.reshape(*shape, *slopes.shape[1:]),
        answer.info,
    )


def padded(rows: Sequence[Sequence[int]], filling: int) -> np.ndarray:
    """Rows as one array, with ``filling`` behind the shorter ones."""
    table = np.full((len(rows), max(map(len, rows))), filling, dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _log_sum(logits: Numbers) -> Numbers:
    most = logits.max(-1, keepdims=True)
    return (most + np.log(np.exp(logits - most).sum(-1, keepdims=True)))[..., 0]
