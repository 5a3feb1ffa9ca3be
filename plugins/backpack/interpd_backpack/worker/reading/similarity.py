"""``backpack.similarity``: how alike two words are, sense by sense."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.reading.senses import PAPER
from interpd_backpack.worker.reading.vectors import Pooling, Vocabulary

PAIRS_AT_ONCE = 512


@dataclass(frozen=True)
class Alike:
    """Cosines of the senses of pairs of words; NaN where a sense is a vector of zeros."""

    by_sense: Float32[Tensor, "_ sense"]
    """``[pair sense]``: the senses of one index."""
    flat: Float32[Tensor, " _"]
    """``[pair]``: of all senses of a word, one behind the other."""
    largest: Float32[Tensor, " _"]
    """Among all pairs of a sense of one and a sense of the other."""
    largest_senses: Int64[Tensor, "_ 2"]
    smallest: Float32[Tensor, " _"]
    smallest_senses: Int64[Tensor, "_ 2"]


@method("backpack.similarity", paper=PAPER)
def similarity(
    ctx: MethodContext,
    *,
    ids: tuple[int, ...],
    counts: tuple[int, ...] = (),
    pairs: tuple[int, ...],
    pool: Pooling = "mean",
) -> Alike:
    """Cosines of the senses of words, ``cos(C(x)_l, C(y)_l)`` and over all pairs of senses.

    Source: Hewitt et al. 2023, section 5.

    Args:
        ids: Tokens of the words, one behind the other.
        counts: How many of them each word has; empty: one.
        pairs: Numbers of the words that are compared, two for each pair.
        pool: What is taken of words of several tokens; the paper takes the mean.
    """
    vocabulary = Vocabulary(Lexicon(ctx))
    words = vocabulary.words(ids, counts, pool)
    if not pairs or len(pairs) % 2 or not all(0 <= number < len(words) for number in pairs):
        raise CallerError(f"pairs are {len(pairs)} numbers, expected two of 0 to {len(words) - 1} for each pair")
    index = torch.tensor(pairs, device=words.device).view(-1, 2)
    found = []
    for done, part in enumerate(index.split(PAIRS_AT_ONCE)):
        ctx.progress(done * PAIRS_AT_ONCE, len(index), "pairs")
        found.append(_alike(words[part[:, 0]], words[part[:, 1]]))
    columns = [torch.cat(column) for column in zip(*found, strict=True)]
    by_sense, flat, largest, largest_senses, smallest, smallest_senses = columns
    return Alike(by_sense.float(), flat.float(), largest.float(), largest_senses, smallest.float(), smallest_senses)


def _alike(one: Tensor, other: Tensor) -> tuple[Tensor, ...]:
    """Cosines of senses ``[pair sense d_model]``."""
    table = torch.einsum("pkd,pld->pkl", one, other) / (one.norm(dim=-1)[:, :, None] * other.norm(dim=-1)[:, None])
    flat_one, flat_other = one.flatten(1), other.flatten(1)
    flat = (flat_one * flat_other).sum(-1) / (flat_one.norm(dim=-1) * flat_other.norm(dim=-1))
    largest, at_largest = table.nan_to_num(nan=-torch.inf).flatten(1).max(-1)
    smallest, at_smallest = table.nan_to_num(nan=torch.inf).flatten(1).min(-1)
    n = table.shape[-1]
    places = [torch.stack([at // n, at % n], -1) for at in (at_largest, at_smallest)]
    ends = [end.masked_fill(end.isinf(), torch.nan) for end in (largest, smallest)]
    return table.diagonal(dim1=1, dim2=2), flat, ends[0], places[0], ends[1], places[1]
