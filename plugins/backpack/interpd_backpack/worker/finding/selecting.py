"""Which senses an example is about: scores of (token, sense) pairs, and the best of each example."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd_backpack.finding.settings import Selector
from interpd_backpack.worker.finding.cached import Seen

OF_GRADIENTS = ("gradient", "epsilon", "fisher")
"""Selectors that need gradients."""


@dataclass(frozen=True)
class Scores:
    """Scores of the pairs of some tokens with every sense."""

    tokens: Tensor
    """``[token]``, rising."""
    values: Tensor
    """``[token sense]``."""


@dataclass(frozen=True)
class Evidence:
    """A sequence, and what a selector needs of it.

    ``contrast``: sign of each row; ``gradients``: of the loss by the mix at each row, the scale of the mix included.
    """

    seen: Seen
    contrast: Tensor
    """``[row]``."""
    gradients: Tensor
    """``[row d_model]``; empty for selectors that need none."""


def scores(selector: Selector, evidence: Evidence, senses: Callable[[Tensor], Tensor]) -> Scores:
    """How much each pair of a sequence matters, before the background is taken off.

    Args:
        selector: Which way.
        evidence: Of the sequence.
        senses: From token ids to their senses ``[token sense d_model]``; for ``epsilon``.
    """
    weights, tokens = evidence.seen.weights, evidence.seen.tokens
    if selector == "alpha":
        return Scores(tokens, weights.sum(0))
    if selector == "alpha-contrast":
        return Scores(tokens, torch.einsum("r,rtl->tl", evidence.contrast, weights))
    gradients = torch.einsum("rtl,rd->tld", weights, evidence.gradients)
    if selector == "epsilon":
        return Scores(tokens, (gradients * senses(tokens)).sum(-1).abs())
    squares = gradients.square().sum(-1)
    return Scores(tokens, squares if selector == "fisher" else squares.sqrt())


def mean_scores(parts: Sequence[Scores], tokens: Tensor, n_senses: int) -> Tensor:
    """The mean over sequences for pairs of ``tokens`` (rising), ``[token sense]``; 0 where a token is not there."""
    first = parts[0].values if parts else torch.zeros(0)
    total = first.new_zeros(len(tokens), n_senses)
    for part in parts:
        places = torch.searchsorted(tokens, part.tokens).clamp(max=len(tokens) - 1)
        is_here = tokens[places] == part.tokens
        total.index_add_(0, places[is_here], part.values[is_here])
    return total / max(1, len(parts))


def chosen(
    examples: Sequence[Scores], background: Tensor, tokens: Tensor, *, background_weight: float, n_per_example: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The union of the best pairs of each example: (tokens, senses, scores), ``[pair]`` each, the best first.

    A score is the example's own less ``background_weight`` times the background's. Pairs whose own score is not above
    0 are left out, so that an example may have fewer than ``n_per_example``.

    Args:
        examples: Of each example.
        background: Mean over the background, ``[token sense]``.
        tokens: Those of ``background``, rising; all tokens of the examples are among them.
        background_weight: lambda.
        n_per_example: How many of each example.
    """
    best: dict[tuple[int, int], float] = {}
    n_senses = background.shape[1]
    for one in examples:
        net = one.values - background_weight * background[torch.searchsorted(tokens, one.tokens)]
        net = net.masked_fill(one.values <= 0, -torch.inf).flatten()
        # equal scores in the order of tokens and senses, so that the choice is the same everywhere
        values, order = net.sort(descending=True, stable=True)
        for value, place in zip(values[:n_per_example].tolist(), order[:n_per_example].tolist(), strict=True):
            if value > -torch.inf:
                pair = (int(one.tokens[place // n_senses]), place % n_senses)
                best[pair] = max(value, best.get(pair, -torch.inf))
    pairs = sorted(best, key=lambda pair: (-best[pair], pair))
    device = tokens.device
    return (
        torch.tensor([token for token, _ in pairs], dtype=torch.int64, device=device),
        torch.tensor([sense for _, sense in pairs], dtype=torch.int64, device=device),
        torch.tensor([best[pair] for pair in pairs], dtype=torch.float64, device=device),
    )
