"""``backpack.specialisation``: how the senses divide the work, and whether they do."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.lexicon import SENSES, WEIGHTS, Lexicon
from interpd_backpack.worker.reading.passes import passes, split
from interpd_backpack.worker.reading.senses import PAPER
from interpd_backpack.worker.reading.vectors import CHUNK_BYTES, Vocabulary, check_top


@dataclass(frozen=True)
class Division:
    """What each sense index does, over some tokens and texts."""

    entropy: Float32[Tensor, " sense"]
    """Of what a sense predicts by itself, ``softmax(E C(x)_l)``: the mean over tokens, in nats."""
    overlap: Float32[Tensor, "sense sense"]
    """The share of its ``top`` words that two senses of a token have in common: the mean over tokens."""
    variance: Float32[Tensor, " sense"]
    """The share of each sense in the variance over tokens, ``var(C_l) / sum_m var(C_m)``; they add up to 1."""
    explained: Float32[Tensor, " sense"]
    """Its share in the variance of the sum of all senses, ``cov(C_l, S) / var(S)``; they add up to 1, and one that
    works against the others is below zero."""
    norms: Float32[Tensor, " sense"]
    """Mean length of the sense vectors."""
    top_ids: Int64[Tensor, " sense"]
    """The word that is the first of the most tokens."""
    top_shares: Float32[Tensor, " sense"]
    """The share of tokens whose first word it is; 1: the sense says one word, whatever the token."""
    distinct: Int64[Tensor, " sense"]
    """How many words are the first of some token."""
    weight_entropy: Float32[Tensor, " sense"]
    """Of the sense weights over positions: the mean over the texts' positions in nats; NaN without texts."""
    said: Float32[Tensor, " sense"]
    """Mean length of what a sense adds at a position, ``|sum_j alpha C|``; NaN without texts."""
    types: Int64[Tensor, " _"]
    """The tokens that the texts are made of."""
    counts: Int64[Tensor, " _"]
    """How often each occurs."""
    mass: Float32[Tensor, "sense _"]
    """``[sense type]``: the share of all sense weights that falls on the tokens of a type."""
    even: Float32[Tensor, " _"]
    """``[type]``: the share that would fall on them if all positions before weighed the same."""


@method("backpack.specialisation", paper=PAPER)
def specialisation(
    ctx: MethodContext,
    *,
    tokens: tuple[int, ...],
    texts: tuple[int, ...] = (),
    lengths: tuple[int, ...] = (),
    top: int = 10,
) -> Division:
    """How the senses divide the work: entropy, overlap and variance over tokens, sense weights over texts.

    Args:
        tokens: Whose senses are looked at.
        texts: Tokens of texts, one behind the other.
        lengths: How many each text has.
        top: Words of a sense that count for the overlap.
    """
    check_top(top)
    if len(tokens) < 2:
        raise CallerError("tokens are fewer than two: there is no variance to divide")
    vocabulary = Vocabulary(Lexicon(ctx))
    vocabulary.check(tokens, "tokens")
    rows = split(texts, lengths) if texts or lengths else []
    n_all = len(tokens) + sum(map(len, rows))
    over_tokens = _OverTokens(vocabulary, top)
    k = vocabulary.lexicon.n_senses
    size = max(1, CHUNK_BYTES // (k * max(8 * vocabulary.lexicon.n_tokens, k * top * top)))
    for start in range(0, len(tokens), size):
        ctx.progress(start, n_all, "tokens")
        over_tokens.add(tokens[start : start + size])
    over_texts = _OverTexts(vocabulary)
    done = len(tokens)
    for one in passes(rows, ctx.session.device):
        ctx.progress(done, n_all, "tokens")
        found = ctx.session.forward(one.ids, reads=[WEIGHTS, SENSES], lengths=one.lengths)
        for row, length in enumerate(one.lengths):
            weights, senses = (found[site][row].to(vocabulary.dtype) for site in (WEIGHTS, SENSES))
            over_texts.add(one.ids[row, :length], weights[:, :length, :length], senses[:, :length])
        done += sum(one.lengths)
    return Division(*over_tokens.result(), *over_texts.result())


class _OverTokens:
    """What the senses say of the vocabulary, added up over tokens."""

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        self._vocabulary, self._top = vocabulary, min(top, vocabulary.lexicon.n_tokens)
        self._entropies: list[Tensor] = []
        self._overlaps: list[Tensor] = []
        self._firsts: list[Tensor] = []
        self._vectors: list[Tensor] = []

    def add(self, tokens: tuple[int, ...]) -> None:
        """Takes in the senses of some tokens."""
        vectors = self._vocabulary.senses(tokens)
        scores = self._vocabulary.scores(vectors, "dot")
        logs = scores.log_softmax(-1)
        self._entropies.append(-(logs.exp() * logs).sum(-1))
        words = scores.topk(self._top, dim=-1).indices
        shared = (words[:, :, None, :, None] == words[:, None, :, None, :]).any(-1).to(scores.dtype).mean(-1)
        self._overlaps.append(shared)
        self._firsts.append(scores.argmax(-1))
        self._vectors.append(vectors)

    def result(self) -> tuple[Tensor, ...]:
        """The first fields of ``Division``."""
        vectors, firsts = torch.cat(self._vectors), torch.cat(self._firsts)
        about_mean = vectors - vectors.mean(0)
        own = about_mean.square().mean(0).sum(-1)
        whole = about_mean.sum(1)
        with_whole = (about_mean * whole[:, None]).mean(0).sum(-1)
        most = [column.unique(return_counts=True) for column in firsts.unbind(1)]
        best = [counts.argmax() for _, counts in most]
        return (
            torch.cat(self._entropies).mean(0).float(),
            torch.cat(self._overlaps).mean(0).float(),
            (own / own.sum()).float(),
            (with_whole / with_whole.sum()).float(),
            vectors.norm(dim=-1).mean(0).float(),
            torch.stack([ids[at] for (ids, _), at in zip(most, best, strict=True)]),
            torch.stack([counts[at] / len(firsts) for (_, counts), at in zip(most, best, strict=True)]).float(),
            torch.tensor([len(ids) for ids, _ in most], device=firsts.device),
        )


class _OverTexts:
    """Where the sense weights of texts are, added up over their positions."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        lexicon, device = vocabulary.lexicon, vocabulary.lexicon.device
        shape = (lexicon.n_senses, lexicon.unembedding.shape[0])
        self._mass = torch.zeros(shape, dtype=torch.float64, device=device)
        self._even, self._counts = self._mass[0].clone(), self._mass[0].clone()
        self._entropy, self._said = self._mass[:, 0].clone(), self._mass[:, 0].clone()
        self._n = 0

    def add(self, ids: Tensor, weights: Tensor, senses: Tensor) -> None:
        """Takes in one text: ``ids [pos]``, ``weights [sense query key]``, ``senses [sense key d_model]``."""
        n = len(ids)
        self._mass.index_add_(1, ids, weights.sum(1).double())
        before = torch.arange(1, n + 1, device=ids.device, dtype=torch.float64)
        # of the positions behind it, each looks evenly at as many as it has before
        self._even.index_add_(0, ids, before.reciprocal().flip(0).cumsum(0).flip(0))
        self._counts.index_add_(0, ids, torch.ones_like(before))
        self._entropy += -torch.xlogy(weights, weights).sum((1, 2)).double()
        self._said += (weights @ senses).norm(dim=-1).sum(1).double()
        self._n += n

    def result(self) -> tuple[Tensor, ...]:
        """The last fields of ``Division``."""
        n = self._n or torch.nan
        types = self._counts.nonzero()[:, 0]
        return (
            (self._entropy / n).float(),
            (self._said / n).float(),
            types,
            self._counts[types].long(),
            (self._mass[:, types] / n).float(),
            (self._even[types] / n).float(),
        )
