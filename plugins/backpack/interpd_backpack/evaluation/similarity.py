"""Lexical similarity: do senses find words alike that people find alike? (Hewitt et al. 2023, section 5, Table 4)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.published import is_published, similarity_of
from interpd_backpack.evaluation.sections import Chart, Section, Table, plain
from interpd_backpack.evaluation.statistics import spearman
from interpd_backpack.evaluation.word_pairs import WordPairs, read_word_pairs

Unknown = Literal["keep", "drop", "refuse"]

PAIRS_AT_ONCE = 2000
"""Pairs of one request."""


@dataclass(frozen=True, kw_only=True)
class SimilaritySettings:
    """Which word pairs, and what is done with words that the vocabulary cannot express.

    Args:
        files: Files of word pairs, as ``read_word_pairs`` reads them.
        unknown: Pairs with a word that the tokenizer knows only as its unknown token: ``keep`` (as published),
            ``drop``, or ``refuse``. They are counted in any case.
    """

    files: tuple[str | Path, ...]
    unknown: Unknown = "keep"


@dataclass(frozen=True)
class SetSimilarity:
    """Rank correlations of one set of word pairs."""

    name: str
    n_pairs: int
    """Pairs that are compared."""
    n_unknown: int
    """Pairs with a word that the vocabulary cannot express, kept or not."""
    n_several: int
    """Pairs with a word of several tokens, whose mean is compared."""
    by_sense: np.ndarray
    """Spearman's rho of cos(C(x)_l, C(y)_l) with the ratings, ``[sense]``."""
    others: Mapping[str, float]
    """That of the least and greatest of these, of all senses as one vector, and of all pairs of senses."""
    published: Mapping[str, float]
    """What the paper has for this set; empty for sets and models that it has not."""

    @property
    def best(self) -> int:
        """The sense that agrees most with people."""
        return int(np.nanargmax(self.by_sense)) if np.isfinite(self.by_sense).any() else 0

    def rows(self) -> dict[str, float]:
        """All correlations by name."""
        return {f"sense {number}": float(rho) for number, rho in enumerate(self.by_sense)} | dict(self.others)


@dataclass(frozen=True)
class LexicalSimilarity:
    """Rank correlations of several sets."""

    sets: tuple[SetSimilarity, ...]
    unknown: Unknown
    has_edit: bool = False
    """Whether an edit was evaluated, which these numbers are not of."""

    def section(self) -> Section:
        """A row for each measure, a column for each set, the paper's numbers beside."""
        columns, cells = ["similarity by"], [[name] for name in self.sets[0].rows()]
        for one in self.sets:
            columns.append(one.name)
            for row, rho in zip(cells, one.rows().values(), strict=True):
                row.append(rho)  # type: ignore[arg-type]
            if one.published:
                columns.append(f"{one.name}, paper")
                for row in cells:
                    row.append(one.published.get(row[0]))  # type: ignore[arg-type]
        counts = [(one.name, one.n_pairs, one.n_several, one.n_unknown) for one in self.sets]
        tables = (
            Table(tuple(columns), tuple(map(tuple, cells)), "Spearman's rho with the ratings of people"),
            Table(("set", "pairs", "of several tokens", "unknown"), tuple(counts)),
        )
        rows = self.sets[0].rows()
        chart = Chart("Spearman's rho", tuple(rows), {one.name: list(one.rows().values()) for one in self.sets})
        notes = ["words are read behind a space; of words of several tokens the mean of their senses is compared"]
        n_unknown = sum(one.n_unknown for one in self.sets)
        if n_unknown:
            done = {"keep": "kept", "drop": "left out", "refuse": "refused"}[self.unknown]
            notes.append(f"{n_unknown} pairs have a word that the vocabulary cannot express; they were {done}")
        if self.has_edit:
            notes.append("similarity is of the senses as they are, without the edit")
        return Section("Lexical similarity", tables, (chart,), tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Everything."""
        sets = {
            one.name: {
                "n_pairs": one.n_pairs,
                "n_unknown": one.n_unknown,
                "n_several": one.n_several,
                "rho": one.rows(),
                "published": one.published,
            }
            for one in self.sets
        }
        return plain({"unknown": self.unknown, "sets": sets})


def measure_similarity(asking: Asking, settings: SimilaritySettings) -> LexicalSimilarity:
    """Rank correlations of sense similarities with ratings; senses are those of the model as it is, without the edit.

    Raises:
        CallerError: No file, an option that there is not, or an unknown word with ``unknown="refuse"``.
    """
    if settings.unknown not in get_args(Unknown):
        raise CallerError(f"unknown is {settings.unknown!r}, expected one of {', '.join(get_args(Unknown))}")
    if not settings.files:
        raise CallerError("there are no word pairs: give files")
    sets = [read_word_pairs(path) for path in settings.files]
    words = sorted({word for one in sets for pair in one.pairs for word in pair})
    asking.told(0, len(sets), "tokens of words")
    tokens = dict(zip(words, asking.tokens([f" {word}" for word in words], special=False), strict=True))
    unknown = asking.unknown_token()
    measured = []
    for number, one in enumerate(sets):
        measured.append(_measured(asking, one, tokens, unknown, settings.unknown))
        asking.told(number + 1, len(sets), one.name)
    return LexicalSimilarity(tuple(measured), settings.unknown, asking.put is not None)


def _measured(
    asking: Asking, pairs: WordPairs, tokens: Mapping[str, tuple[int, ...]], unknown: int | None, policy: Unknown
) -> SetSimilarity:
    # a word without tokens cannot be looked up at all
    strange = [any(unknown in tokens[word] or not tokens[word] for word in pair) for pair in pairs.pairs]
    if policy == "refuse" and any(strange):
        one, other = pairs.pairs[strange.index(True)]
        raise CallerError(
            f"{pairs.name}: the vocabulary cannot express the pair {one!r}, {other!r}, nor {sum(strange) - 1} others; "
            "take unknown='keep' or 'drop'"
        )
    kept = [number for number, is_strange in enumerate(strange) if policy == "keep" or not is_strange]
    if len(kept) < 2:
        raise CallerError(f"{pairs.name}: {len(kept)} of {len(pairs)} pairs are left; a correlation needs two")
    chosen = [pairs.pairs[number] for number in kept]
    by_sense, others = _cosines(asking, chosen, tokens)
    ratings = pairs.ratings[kept]
    n_several = sum(any(len(tokens[word]) > 1 for word in pair) for pair in chosen)
    published = similarity_of(len(pairs)) if is_published(asking.model.info) else {}
    return SetSimilarity(
        name=pairs.name,
        n_pairs=len(kept),
        n_unknown=sum(strange),
        n_several=n_several,
        by_sense=np.array([_rho(column, ratings) for column in by_sense.T]),
        others={name: _rho(values, ratings) for name, values in others.items()},
        published=published,
    )


def _cosines(
    asking: Asking, pairs: Sequence[tuple[str, str]], tokens: Mapping[str, tuple[int, ...]]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cosines sense by sense, ``[pair sense]``, and others, ``[pair]`` each."""
    parts = []
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        part = pairs[start : start + PAIRS_AT_ONCE]
        words = sorted({word for pair in part for word in pair})
        place = {word: number for number, word in enumerate(words)}
        t = asking.model.trace(tokens[words[0]][:1], progress=False)
        alike = t.op(
            "backpack.similarity",
            ids=tuple(id_ for word in words for id_ in tokens[word]),
            counts=tuple(len(tokens[word]) for word in words),
            pairs=tuple(place[word] for pair in part for word in pair),
            pool="mean",
        )
        t.save(alike=alike)
        parts.append(t.run()["alike"])
    by_sense = np.concatenate([one.by_sense for one in parts]).astype(np.float64)
    others = {"min": by_sense.min(1), "max": by_sense.max(1)}
    for name, field in (("flat", "flat"), ("max of all pairs", "largest"), ("min of all pairs", "smallest")):
        others[name] = np.concatenate([getattr(one, field) for one in parts]).astype(np.float64)
    return by_sense, others


def _rho(values: np.ndarray, ratings: np.ndarray) -> float:
    # a sense that is zero is like nothing
    return spearman(values, ratings) if np.isfinite(values).all() else float("nan")
