"""``backpack.reverse`` and ``backpack.nearest``: all senses of all tokens, held against a direction."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.reading.senses import PAPER
from interpd_backpack.worker.reading.vectors import By, Pooling, Vocabulary, both_ends, check_top


@dataclass(frozen=True)
class Found:
    """Both ends of a scan, for each sense index."""

    most_ids: Int64[Tensor, "sense top"]
    """The tokens whose sense is nearest; -1 behind the last."""
    most: Float32[Tensor, "sense top"]
    least_ids: Int64[Tensor, "sense top"]
    least: Float32[Tensor, "sense top"]


@method("backpack.reverse", paper=PAPER)
def reverse(
    ctx: MethodContext, *, target: int, against: int = -1, top: int = 10, by: By = "dot", scaled: bool = False
) -> Found:
    """The senses of all tokens that push a token most and least: a column of ``E C``.

    Args:
        target: The token that is predicted.
        against: A token that it is compared with, whose logit is taken off; -1: none.
        by: ``dot``: the logit that a sense adds at weight 1; ``cosine``: without the lengths.
        scaled: Divide by the most that the sense says of any token, as the paper's topic control ranks senses. Slow:
            the whole of ``E C`` is computed.
    """
    check_top(top)
    vocabulary = Vocabulary(Lexicon(ctx))
    vocabulary.check((target,), "target")
    direction = vocabulary.directions[target]
    if against != -1:
        vocabulary.check((against,), "against")
        direction = direction - vocabulary.directions[against]
    return _both(_scanned(ctx, vocabulary, direction, by, scaled=scaled), top)


@method("backpack.nearest", paper=PAPER)
def nearest(
    ctx: MethodContext,
    *,
    ids: tuple[int, ...],
    sense: int,
    pool: Pooling = "mean",
    top: int = 10,
    by: By = "cosine",
) -> Found:
    """The senses of all tokens that are most and least like a sense of a word.

    The sense itself is left out.

    Args:
        ids: The word's tokens.
        sense: Which of its senses.
        pool: What is taken of words of several tokens.
        by: The cosine of the two sense vectors, or their product.
    """
    check_top(top)
    vocabulary = Vocabulary(Lexicon(ctx))
    vocabulary.chosen((sense,))
    direction = vocabulary.words(ids, (len(ids),), pool)[0, sense]
    table = _scanned(ctx, vocabulary, direction, by, scaled=False)
    table[sense, list(ids)] = torch.nan
    return _both(table, top)


def _scanned(ctx: MethodContext, vocabulary: Vocabulary, direction: Tensor, by: By, *, scaled: bool) -> Tensor:
    """``[sense token]``: what each sense of each token is to a direction."""
    if scaled and by == "cosine":
        raise CallerError("by='cosine' has no lengths left to scale: leave scaled out")
    lexicon, length = vocabulary.lexicon, direction.norm()
    numbers = lexicon.n_senses * (lexicon.n_tokens if scaled else 2 * len(direction))
    found = []
    for part in vocabulary.chunks(numbers * direction.element_size()):
        ctx.progress(part.start, lexicon.n_tokens, "tokens")
        vectors = vocabulary.senses(part)
        rows = vectors @ direction
        if by == "cosine":
            rows = rows / (vectors.norm(dim=-1) * length)
        elif scaled:
            rows = rows / vocabulary.scores(vectors, "dot").amax(-1)
        found.append(rows)
    return torch.cat(found).T


def _both(table: Tensor, top: int) -> Found:
    most_ids, most, least_ids, least = both_ends(table, top)
    return Found(most_ids, most.float(), least_ids, least.float())
