"""Questions about senses: which tokens, which method, and the result that comes of it."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.asking import ask, asked_words, listed, one_token, strings_of
from interpd_backpack.reading.ranking import SenseRanking
from interpd_backpack.reading.senses import SenseWords, shown
from interpd_backpack.reading.similarity import Similarity
from interpd_backpack.reading.specialisation import Specialisation
from interpd_backpack.texts import Text, in_pieces
from interpd_backpack.words import Pieces
from interpd_client import Model

By = Literal["dot", "cosine"]

MOST_TOKENS = 256
"""Tokens that a report on specialisation looks at, unless it is told which."""


def senses(
    model: Model,
    words: str | int | Sequence[str | int],
    *,
    senses: Sequence[int] = (),
    top: int = 10,
    by: By = "dot",
    pieces: Pieces = "refuse",
    rank_of: str | int | Sequence[str | int] = (),
    **run: Any,
) -> SenseWords:
    """What the senses of words say; see ``Backpack.senses``."""
    asked = asked_words(model, listed(words), pieces)
    ranked = tuple(one_token(model, text, pieces) for text in listed(rank_of))
    constants = {
        **asked.constants,
        "senses": tuple(senses),
        "top": top,
        "by": by,
        "rank_of": tuple(word.ids[0] for word in ranked),
    }
    answer = ask(model, "backpack.senses", asked.rows[0].ids[:1], constants, run)
    found = answer.values
    return SenseWords(
        asked.rows,
        tuple(senses) or tuple(range(found.most_ids.shape[1])),
        by,
        found.most_ids,
        found.most,
        found.least_ids,
        found.least,
        found.norms,
        ranked,
        found.ranks,
        found.scores,
        int(found.among),
        strings_of(model, found.most_ids, found.least_ids, asked.constants["ids"], constants["rank_of"]),
        {**answer.info, "pieces": asked.said},
    )


def reverse(
    model: Model,
    word: str | int,
    *,
    against: str | int | None = None,
    top: int = 10,
    by: By = "dot",
    scaled: bool = False,
    pieces: Pieces = "refuse",
    **run: Any,
) -> SenseRanking:
    """Which senses push a word; see ``Backpack.reverse``."""
    target = one_token(model, word, pieces)
    other = None if against is None else one_token(model, against, pieces)
    if other is not None and other.ids == target.ids:
        raise CallerError(f"nothing pushes {target.text!r} rather than itself: against is another word")
    constants: dict[str, Any] = {"target": target.ids[0], "top": top, "by": by, "scaled": scaled}
    if other is not None:
        constants["against"] = other.ids[0]
    answer = ask(model, "backpack.reverse", target.ids, constants, run)
    strings = strings_of(model, target.ids, () if other is None else other.ids)
    question = f"senses that push {shown(target, strings)}"
    question += "" if other is None else f" rather than {shown(other, strings)}"
    question += ", as shares of the most that they say of any token" if scaled else ""
    used = next((one.pieces for one in (target, other) if one is not None and one.pieces != "refuse"), "refuse")
    return _ranking(model, answer, question, by, used)


def nearest(
    model: Model,
    word: str | int,
    sense: int,
    *,
    top: int = 10,
    by: By = "cosine",
    pieces: Pieces = "refuse",
    **run: Any,
) -> SenseRanking:
    """The senses that are most like a sense; see ``Backpack.nearest``."""
    asked = asked_words(model, [word], pieces)
    if len(asked.rows) > 1:
        raise CallerError(f"{word!r} is {len(asked.rows)} tokens, and one sense is compared: take one of the tokens")
    (row,) = asked.rows
    constants = {"ids": row.ids, "pool": asked.constants["pool"], "sense": sense, "top": top, "by": by}
    answer = ask(model, "backpack.nearest", row.ids[:1], constants, run)
    return _ranking(
        model, answer, f"senses like sense {sense} of {shown(row, strings_of(model, row.ids))}", by, asked.said
    )


def similarity(
    model: Model, pairs: Sequence[tuple[str | int, str | int]], *, pieces: Pieces = "refuse", **run: Any
) -> Similarity:
    """How alike words are; see ``Backpack.similarity``."""
    wrong = next((pair for pair in pairs if isinstance(pair, str | int) or len(pair) != 2), None)
    if wrong is not None or not pairs:
        got = "none" if wrong is None else repr(wrong)
        raise CallerError(f"pairs are two words each, for instance [('cat', 'dog')]; got {got}")
    if pieces == "each":
        raise CallerError("pieces='each' makes several words of one: compare the tokens themselves")
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    asked = asked_words(model, texts, pieces)
    at = {text: number for number, text in enumerate(texts)}
    constants = {**asked.constants, "pairs": tuple(at[text] for pair in pairs for text in pair)}
    answer = ask(model, "backpack.similarity", asked.rows[0].ids[:1], constants, run)
    found = answer.values
    return Similarity(
        tuple((asked.rows[at[one]], asked.rows[at[other]]) for one, other in pairs),
        found.by_sense,
        found.flat,
        found.largest,
        found.largest_senses,
        found.smallest,
        found.smallest_senses,
        strings_of(model, asked.constants["ids"]),
        {**answer.info, "pieces": asked.said},
    )


def specialisation(
    model: Model,
    texts: Text | Sequence[Text] | None = None,
    *,
    words: Sequence[str | int] | None = None,
    top: int = 10,
    pieces: Pieces = "refuse",
    **run: Any,
) -> Specialisation:
    """How the senses divide the work; see ``Backpack.specialisation``."""
    given = [texts] if isinstance(texts, Text) else list(texts or ())
    if texts is not None and not given:
        raise CallerError("there are no texts; leave them out for what senses say by themselves")
    read = in_pieces(model, given)
    encoded = read.ids
    tokens = _frequent(model, encoded) if words is None else _distinct(model, words, pieces)
    constants = {
        "tokens": tokens,
        "texts": tuple(id_ for ids in encoded for id_ in ids),
        "lengths": tuple(map(len, encoded)),
        "top": top,
    }
    answer = ask(model, "backpack.specialisation", tokens[:1], constants, run)
    found = answer.values
    names = (
        "entropy", "overlap", "variance", "explained", "norms", "top_ids", "top_shares", "distinct", "weight_entropy",
        "said", "types", "counts", "mass", "even",
    )  # fmt: skip
    arrays = {name: np.asarray(getattr(found, name)) for name in names}
    chosen = "the most frequent of the texts" if words is None and encoded else "evenly over the vocabulary"
    info = {**answer.info, "pieces": pieces, "tokens": chosen if words is None else "given", "cut": read.said()}
    strings = strings_of(model, found.top_ids, found.types)
    return Specialisation(tokens=tokens, n_texts=len(given), top_words=top, strings=strings, info=info, **arrays)


def _ranking(model: Model, answer: Any, question: str, by: str, pieces: str) -> SenseRanking:
    found = answer.values
    strings = strings_of(model, found.most_ids, found.least_ids)
    ends = (found.most_ids, found.most, found.least_ids, found.least)
    return SenseRanking(question, by, *ends, strings, {**answer.info, "pieces": pieces})


def _frequent(model: Model, texts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The most frequent tokens of texts; without texts, tokens evenly over the vocabulary."""
    if texts:
        ids, counts = np.unique(np.concatenate([np.asarray(text) for text in texts]), return_counts=True)
        return tuple(ids[np.argsort(-counts, kind="stable")][:MOST_TOKENS].tolist())
    n = model.info.sizes["d_vocab"]
    even = np.unique(np.linspace(0, n - 1, min(n, MOST_TOKENS)).astype(int)).tolist()
    strings = strings_of(model, even)
    # what decodes to nothing is padding
    return tuple(id_ for id_ in even if strings[id_])


def _distinct(model: Model, words: Sequence[str | int], pieces: Pieces) -> tuple[int, ...]:
    return tuple(dict.fromkeys(id_ for row in asked_words(model, words, pieces).rows for id_ in row.ids))
