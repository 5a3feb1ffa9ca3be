"""The published baseline for plain transformers: the direction between two words is taken out of an embedding."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.finding.cases import How, Pair, Side, asked_prompts
from interpd_backpack.finding.solving import Numbers, bias
from interpd_client import Model, Trace

PROMPTS_AT_ONCE = 64
"""Prompts of one request."""


def projected_bias(
    model: Model,
    words: Sequence[str | int],
    prompts: Sequence[str],
    pair: tuple[Side, Side] = ("he", "she"),
    *,
    factors: Sequence[float] = (0.0,),
    how: How | None = None,
) -> Numbers:
    """The bias of each word with each factor of the direction, ``[word factor]`` (Hewitt et al. 2023, D.2).

    With ``d = E_second - E_first`` the input embedding ``e`` of the word becomes ``e - (1 - p) (e . d / |d|^2) d``, at
    its own positions only; the output embedding stays. A factor of 0 projects to the null space of ``d``, 1 changes
    nothing. What a transformer makes of a changed embedding is no closed form: each factor is a pass of its own.

    Args:
        model: Any causal language model with a site ``embed``.
        words: Professions, for instance.
        prompts: Texts with ``{}`` where the word stands.
        pair: Two single words.
        factors: p.
        how: Pieces of words, and options of requests.

    Raises:
        CallerError: What cannot be, before anything is computed.
    """
    how = how or How()
    asked = asked_prompts(model, words, prompts, pair, how)
    if len(asked.pair.ids) != 2:
        raise CallerError(f"the pair {asked.pair} has several words on a side: a direction is between two")
    if not factors:
        raise CallerError("expected one factor at least")
    rows = [(ids, owner.ids) for ids, owner in zip(asked.sequences, asked.owners, strict=True)]
    found = []
    for factor in factors:
        ratios: list[float] = []
        for start in range(0, len(rows), PROMPTS_AT_ONCE):
            ratios += _ratios(model, rows[start : start + PROMPTS_AT_ONCE], asked.pair, float(factor), how.run)
        found.append(bias(np.reshape(ratios, (len(asked.words), len(prompts)))))
    return np.stack(found, 1)


class _Change(NamedTuple):
    """What is done to embeddings, as values of a trace."""

    pair: Pair
    factor: float
    direction: Any
    size: Any
    """Its squared norm."""


def _ratios(
    model: Model,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    pair: Pair,
    factor: float,
    run: Mapping[str, Any],
) -> list[float]:
    """log p(first) - log p(second) behind each row."""
    t = model.trace(**run)
    ends = t.prompt(list(pair.ids)).embed
    direction = ends[0, 1] - ends[0, 0]
    change = _Change(pair, factor, direction, (direction * direction).sum())
    t.save(ratios=[_ratio(t, ids, scaled, change) for ids, scaled in rows])
    return [float(one) for one in t.run()["ratios"]]


def _ratio(t: Trace, ids: Sequence[int], scaled: Sequence[int], change: _Change) -> Any:
    prompt = t.prompt(list(ids))
    for place in (place for place, token in enumerate(ids) if token in scaled):
        own = prompt.embed[0, place]
        share = (own * change.direction).sum() / change.size
        prompt.embed[0, place] = own + (change.factor - 1) * share * change.direction
    last = prompt.logits[0, -1]
    return last[change.pair.ids[0]] - last[change.pair.ids[1]]
