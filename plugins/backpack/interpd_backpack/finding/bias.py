"""``model.backpack.rank_bias`` and ``model.backpack.optimal_scale``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from interpd_backpack.edits import fingerprint
from interpd_backpack.finding.bias_results import BiasRanking, OptimalScale
from interpd_backpack.finding.cases import How, Side, Under, cases
from interpd_backpack.words import Pieces
from interpd_client import Model


def rank_bias(
    model: Model,
    words: Sequence[str | int],
    prompts: Sequence[str],
    pair: tuple[Side, Side] = ("he", "she"),
    *,
    factor: float = 0.0,
    pieces: Pieces = "refuse",
    under: Under | None = None,
    **run: Any,
) -> BiasRanking:
    """Which sense of which word carries a bias: every sense of every word, scaled, from one forward pass.

    Args:
        model: A Backpack.
        words: Professions, for instance.
        prompts: Texts with ``{}`` where the word stands; what comes next is compared.
        pair: The two sides; each a word, or several whose probabilities are added.
        factor: What a sense is scaled by in the ranking: 0 removes it.
        pieces: What is done with words of several tokens; ``each`` scales all of them together.
        under: What is in force: an edit, or a function that records writes.
        run: Options of requests: ``timeout_s``, ``progress``, ``adapter``.

    Raises:
        CallerError: What cannot be, before anything is computed.
    """
    return BiasRanking(cases(model, words, prompts, pair, How(pieces, under, run)), float(factor))


def optimal_scale(
    model: Model,
    words: Sequence[str | int],
    prompts: Sequence[str],
    pair: tuple[Side, Side] = ("he", "she"),
    *,
    sense: int | None = None,
    test_prompts: Sequence[str] = (),
    penalty: float = 1.0,
    bounds: tuple[float, float] | None = None,
    **options: Any,
) -> OptimalScale:
    """The factor of a sense with the least bias, for each word, and the edit that puts them in force.

    Args:
        model: A Backpack.
        words: Each gets a factor of its own.
        prompts: What the factors are chosen on, with ``{}`` where the word stands.
        pair: As in ``rank_bias``.
        sense: Which; ``None``: the one whose removal lowers the mean bias on ``prompts`` most.
        test_prompts: What the outcome is measured on; empty: on ``prompts``.
        penalty: On leaving 1; 1 as published, 0 for the least bias there is.
        bounds: Least and greatest factor.
        options: ``pieces`` and ``under``, as in ``rank_bias``, and options of requests.

    Raises:
        CallerError: What cannot be, before anything is computed.
    """
    how = How(options.pop("pieces", "refuse"), options.pop("under", None), options)
    train = cases(model, words, prompts, pair, how)
    chosen = BiasRanking(train, 0.0).best_sense if sense is None else train.checked_sense(sense)
    test = cases(model, words, test_prompts, pair, how) if test_prompts else None
    best = [train.best(word, chosen, penalty=penalty, bounds=bounds) for word in range(len(train.words))]
    return OptimalScale(
        train=train,
        test=test,
        sense=chosen,
        factors=np.array([one.factor for one in best]),
        penalty=float(penalty),
        is_exact=all(one.is_exact for one in best),
        base=fingerprint(model.info),
    )
