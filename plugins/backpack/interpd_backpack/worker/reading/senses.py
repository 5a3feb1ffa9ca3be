"""``backpack.senses``: what the senses of words predict."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from interpd.sdk import MethodContext, method
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.reading.vectors import By, Pooling, Vocabulary, both_ends, check_top

PAPER = "https://arxiv.org/abs/2305.16765"


@dataclass(frozen=True)
class SenseWords:
    """Both ends of what each sense says of the vocabulary."""

    most_ids: Int64[Tensor, "_ _ top"]
    """``[word sense top]``, -1 behind the last token."""
    most: Float32[Tensor, "_ _ top"]
    least_ids: Int64[Tensor, "_ _ top"]
    least: Float32[Tensor, "_ _ top"]
    norms: Float32[Tensor, "_ _"]
    """``[word sense]``: lengths of the sense vectors."""
    ranks: Int64[Tensor, "_ _ _"]
    """``[word sense of]``: 1 is the token that the sense says most; ties have one rank."""
    scores: Float32[Tensor, "_ _ _"]
    """``[word sense of]``"""
    among: Int64[Tensor, ""]
    """How many tokens there are; rows of the embedding behind them are left out."""


@method("backpack.senses", paper=PAPER)
def senses(
    ctx: MethodContext,
    *,
    ids: tuple[int, ...],
    counts: tuple[int, ...] = (),
    pool: Pooling = "mean",
    senses: tuple[int, ...] = (),
    top: int = 10,
    by: By = "dot",
    rank_of: tuple[int, ...] = (),
) -> SenseWords:
    """The tokens that each sense of words says most and least, ``E C(x)``, over the whole vocabulary.

    Source: Hewitt et al. 2023, section 4.

    Args:
        ids: Tokens of the words, one behind the other.
        counts: How many of them each word has; empty: one.
        pool: What is taken of words of several tokens.
        senses: Which; empty: all.
        by: ``dot``: the logit that the sense adds at weight 1; ``cosine``: without the lengths of both.
        rank_of: Tokens whose place among all is told.
    """
    check_top(top)
    vocabulary = Vocabulary(Lexicon(ctx))
    chosen = vocabulary.chosen(senses)
    if rank_of:
        vocabulary.check(rank_of, "rank_of")
    vectors = vocabulary.words(ids, counts, pool)[:, list(chosen)]
    found = []
    for number, word in enumerate(vectors):
        ctx.progress(number, len(vectors))
        found.append(_of_word(vocabulary.scores(word, by), top, rank_of))
    ends = [torch.stack(column) for column in zip(*found, strict=True)]
    most_ids, most, least_ids, least, ranks, scores = ends
    return SenseWords(
        most_ids,
        most.float(),
        least_ids,
        least.float(),
        vectors.norm(dim=-1).float(),
        ranks,
        scores.float(),
        torch.tensor(vocabulary.lexicon.n_tokens, device=vectors.device),
    )


def _of_word(scores: Tensor, top: int, rank_of: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Both ends, ranks and scores of one word's ``[sense token]``."""
    asked = scores[:, list(rank_of)]
    ranks = [1 + (scores > asked[:, [number]]).sum(-1) for number in range(len(rank_of))]
    rows = torch.stack(ranks, -1) if ranks else scores.new_zeros((len(scores), 0), dtype=torch.int64)
    return (*both_ends(scores, top), rows, asked)
