"""How much each sense of each token speaks for a bag of words, and its factor in topic control (Hewitt et al. 2023)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, artifact, method
from interpd_backpack.worker.lexicon import Lexicon

PAPER = "https://arxiv.org/abs/2305.16765"
Formula = Literal["code", "paper"]
"""Whose formulas: those of the published code, which made the published numbers, or those that the paper prints."""
CHUNK_BYTES = 128 << 20
"""What the logits of a slice of the vocabulary may take."""

Told = Callable[[int, int], object]
"""Is told (tokens done, all tokens), and gives the engine a turn."""


@artifact("sense_peaks")
@dataclass(frozen=True)
class SensePeaks:
    """The normalisers of topic scores: no bag enters them, so they are computed once for a model."""

    highest: Float32[Tensor, "d_vocab sense"]
    """max_v (E C(w)_l)_v, the largest logit of each sense (published code, and the paper's equation 17)."""
    largest: Float32[Tensor, "d_vocab sense"]
    """max_v |(E C(w)_l)_v| (the paper's footnote)."""

    def of(self, formula: Formula) -> Tensor:
        """The normaliser of a formula."""
        return self.highest if formula == "code" else self.largest


@method("backpack.peaks", paper=PAPER)
def peaks(ctx: MethodContext, *, save_as: str = "") -> SensePeaks:
    """The largest logit, and the largest absolute one, of each sense of each token.

    All of ``E C`` is computed, ``2 V^2 k d`` operations (62 TFLOP for the published model), a slice of the vocabulary
    at a time.

    Args:
        save_as: Keeps them as an artifact of this name.
    """
    found = vocabulary_peaks(Lexicon(ctx), lambda done, total: ctx.progress(done, total, "tokens"))
    if save_as:
        ctx.save_artifact(save_as, found)
    return found


@dataclass(frozen=True)
class TopicTable:
    """A topic, as the vocabulary has it."""

    scores: Float32[Tensor, "d_vocab sense"]
    """How much each sense of each token speaks for the bag, over its largest logit."""
    factors: Float32[Tensor, "d_vocab sense"]
    """By the band that the score lies in."""


@method("backpack.topic", paper=PAPER)
def topic(
    ctx: MethodContext,
    *,
    bag: tuple[int, ...],
    quantiles: tuple[float, ...],
    factors: tuple[float, ...],
    formula: Formula = "code",
    peaks: SensePeaks | None = None,
) -> TopicTable:
    """How much each sense of each token speaks for a bag of tokens, and its factor in topic control.

    Special tokens and rows of the vocabulary that no token has score 0, as in the published code.

    Args:
        bag: The tokens of the topic.
        quantiles: Of all scores, falling; scores that are equal to one keep the factor 1.
        factors: One for each quantile, of scores above it, and one for those below the last.
        formula: ``code``: over the largest logit; ``paper``: over the largest absolute one.
        peaks: What ``backpack.peaks`` kept; without it all of ``E C`` is computed again.

    Raises:
        CallerError: A bag that is no set of tokens, or factors and quantiles that do not belong together.
    """
    falls = all(low < high for high, low in zip((1.0, *quantiles), (*quantiles, 0.0), strict=True))
    if not quantiles or not falls or len(factors) != len(quantiles) + 1:
        raise CallerError(
            f"quantiles are {quantiles} and factors {factors}, expected falling numbers between 0 and 1, and a factor "
            "for each and one for what lies below"
        )
    scores = vocabulary_scores(ctx, bag, formula, peaks)
    return TopicTable(scores.float(), banded(scores, quantiles, factors).float())


def vocabulary_peaks(lexicon: Lexicon, told: Told) -> SensePeaks:
    """The normalisers for the whole vocabulary, pads included: they are logits like others."""
    directions = _wide(lexicon.unembedding)
    highest, largest = [], []
    for ids in _slices(lexicon, told, with_logits=True):
        logits = _wide(lexicon.senses(ids)) @ directions.T
        least, most = logits.aminmax(dim=-1)
        highest.append(most.float())
        largest.append(torch.maximum(most, -least).float())
    return SensePeaks(torch.cat(highest), torch.cat(largest))


def vocabulary_scores(
    ctx: MethodContext, bag: Sequence[int], formula: Formula = "code", peaks: SensePeaks | None = None
) -> Tensor:
    """``[d_vocab, sense]`` in float32, or in float64 where that is the model's dtype.

    Raises:
        CallerError: An empty bag, a token twice, or none of the vocabulary.
    """
    lexicon = Lexicon(ctx)
    check_bag(bag, lexicon.n_tokens)
    directions = _wide(lexicon.unembedding)
    wanted = directions[list(bag)].sum(0)

    def told(done: int, total: int) -> None:
        ctx.progress(done, total, "tokens")

    parts = []
    for ids in _slices(lexicon, told, with_logits=peaks is None):
        senses = _wide(lexicon.senses(ids))
        peak = _peak(senses @ directions.T, formula) if peaks is None else peaks.of(formula)[ids].to(senses)
        # a sense that was all zeros speaks for nothing
        parts.append(torch.where(peak == 0, 0.0, senses @ wanted / peak))
    scores = torch.cat(parts)
    scores[_silent(ctx, lexicon, len(scores))] = 0.0
    return scores


def banded(scores: Tensor, quantiles: Sequence[float], factors: Sequence[float]) -> Tensor:
    """The factor of each sense by the band that its score lies in; the same shape and dtype.

    Scores equal to a quantile have the factor 1, as the published code leaves them.

    Args:
        scores: Of all senses of all tokens.
        quantiles: Falling.
        factors: Of scores above each quantile (and below the one before), and of those below the last.
    """
    cuts = _quantiles(scores, quantiles)
    found = torch.ones_like(scores)
    ceiling: Tensor | None = None
    for cut, factor in zip(cuts, factors, strict=False):
        inside = scores > cut if ceiling is None else (scores > cut) & (scores < ceiling)
        found[inside], ceiling = factor, cut
    found[scores < cuts[-1]] = factors[len(cuts)]
    return found


def check_bag(bag: Sequence[int], n_tokens: int) -> None:
    """Raises ``CallerError`` for a bag of nothing, of a token twice, or of what is no token."""
    if not bag:
        raise CallerError("the bag is empty: name the words of the topic")
    if len(set(bag)) != len(bag):
        raise CallerError(f"the bag {list(bag)} has a token twice; a topic is a set of tokens")
    if wrong := [id_ for id_ in bag if not 0 <= id_ < n_tokens]:
        raise CallerError(f"the bag has {wrong[0]}, but tokens are 0 to {n_tokens - 1}")


def _quantiles(scores: Tensor, quantiles: Sequence[float]) -> Tensor:
    """As ``torch.quantile``, which takes no more than 16 million numbers."""
    ordered = scores.flatten().sort().values
    ranks = torch.tensor(quantiles, dtype=torch.float64, device=scores.device) * (len(ordered) - 1)
    below = ranks.long()
    above = (below + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], (ranks - below).to(ordered.dtype))


def _slices(lexicon: Lexicon, told: Told, *, with_logits: bool) -> Iterator[Tensor]:
    """Ids of the vocabulary, as many at once as their logits, or senses alone, may take; says before each how far."""
    n_rows, width = lexicon.unembedding.shape
    size = max(1, CHUNK_BYTES // (4 * lexicon.n_senses * (n_rows if with_logits else width)))
    for start in range(0, n_rows, size):
        told(start, n_rows)
        yield torch.arange(start, min(start + size, n_rows), device=lexicon.device)


def _peak(logits: Tensor, formula: Formula) -> Tensor:
    return logits.amax(-1) if formula == "code" else logits.abs().amax(-1)


def _silent(ctx: MethodContext, lexicon: Lexicon, n_rows: int) -> list[int]:
    """Rows that score nothing: special tokens, and those behind the last token."""
    return sorted({*ctx.session.special_ids().values(), *range(lexicon.n_tokens, n_rows)})


def _wide(x: Tensor) -> Tensor:
    """Half precision would not rank."""
    return x if x.dtype == torch.float64 else x.float()
