"""``model.backpack.topic`` and ``model.backpack.peaks``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd_backpack.asking import PEAKS, ask, known_peaks, listed, strings_of
from interpd_backpack.edits import Topic
from interpd_backpack.topics.results import TopicTable
from interpd_backpack.words import Pieces, word
from interpd_client import Model

NAME = "sense-peaks"
_ANY = Prompt(token_ids=(0,))
"""A prompt for methods that look at none."""


def topic(
    model: Model,
    bag: str | int | Sequence[str | int],
    *,
    strength: int | Sequence[float] = 1,
    formula: str = "code",
    quantiles: Sequence[float] | None = None,
    top: int = 20,
    pieces: Pieces = "refuse",
    **run: Any,
) -> TopicTable:
    """The senses that speak for a bag of words; see ``Backpack.topic``."""
    if pieces not in ("refuse", "first", "last", "each"):
        raise CallerError(f"pieces is {pieces!r}, but a bag is of tokens: refuse, first, last, each")
    words = tuple(word(model, one, pieces) for one in listed(bag))
    ids = tuple(dict.fromkeys(id_ for one in words for id_ in one.ids))
    chosen = strength if isinstance(strength, int) else tuple(strength)
    # the operation of edits knows the published strengths, and what of the rest belongs together
    settings = {} if quantiles is None else {"quantiles": tuple(quantiles)}
    asked = Topic(ids, chosen, formula=formula, **settings)  # type: ignore[arg-type]
    constants = {"bag": ids, "quantiles": asked.quantiles, "factors": asked.factors, "formula": formula}
    answer = ask(model, "backpack.topic", _ANY, {**constants, **known_peaks(model)}, run)
    scores, factors = np.asarray(answer.values.scores), np.asarray(answer.values.factors)
    n_senses = scores.shape[1]
    order = np.argsort(-scores, axis=None, kind="stable")[:top]
    return TopicTable(
        words,
        formula,
        asked.quantiles,
        asked.factors,
        scores,
        factors,
        order // n_senses,
        order % n_senses,
        strings_of(model, order // n_senses),
        {**answer.info, "pieces": pieces},
    )


def peaks(model: Model, name: str = NAME, **run: Any) -> str:
    """The name of the normalisers of topic scores, which are computed unless they are there."""
    kinds = {one.name: one.kind for one in model.artifacts()}
    if kinds.get(name, PEAKS) != PEAKS:
        raise CallerError(f"{name!r} is an artifact of kind {kinds[name]!r} already: take another name")
    if name not in kinds:
        ask(model, "backpack.peaks", _ANY, {"save_as": name}, run)
    return name
