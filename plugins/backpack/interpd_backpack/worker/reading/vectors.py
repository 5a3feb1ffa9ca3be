"""Senses of words of one or more tokens, and directions of the vocabulary, in the dtype that is computed in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_backpack.worker.lexicon import Lexicon

Pooling = Literal["mean", "sum"]
By = Literal["dot", "cosine"]

CHUNK_BYTES = 64 << 20
"""What a slice of a scan over the vocabulary may hold."""


@dataclass(frozen=True)
class Vocabulary:
    """Senses and directions of a Backpack in float32, or in float64 where that is the model's dtype."""

    lexicon: Lexicon

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: products of half precision would not rank."""
        return torch.float64 if self.directions.dtype == torch.float64 else torch.float32

    @cached_property
    def directions(self) -> Tensor:
        """E without the rows that no token has, ``[token, d_model]``."""
        rows = self.lexicon.unembedding[: self.lexicon.n_tokens]
        return rows if rows.dtype == torch.float64 else rows.float()

    @cached_property
    def lengths(self) -> Tensor:
        """The norms of ``directions``, ``[token]``."""
        return self.directions.norm(dim=-1)

    def check(self, ids: Sequence[int], what: str = "ids") -> None:
        """Raises ``CallerError`` for none, and for what is no token."""
        if not ids:
            raise CallerError(f"{what} is empty: name at least one token")
        wrong = next((id_ for id_ in ids if not 0 <= id_ < self.lexicon.n_tokens), None)
        if wrong is not None:
            raise CallerError(f"{what} has {wrong}, but tokens are 0 to {self.lexicon.n_tokens - 1}")

    def senses(self, ids: Sequence[int] | Tensor) -> Tensor:
        """C(x), ``[token, sense, d_model]``."""
        return self.lexicon.senses(ids).detach().to(self.dtype)

    def words(self, ids: Sequence[int], counts: Sequence[int], pool: Pooling) -> Tensor:
        """Senses of words, each of ``counts`` of the ``ids``: ``[word, sense, d_model]``.

        Raises:
            CallerError: No words, or counts that are not those of the ids.
        """
        self.check(ids)
        counts = tuple(counts) or (1,) * len(ids)
        if min(counts) < 1 or sum(counts) != len(ids):
            raise CallerError(f"counts are {list(counts)}, expected one of each word, {len(ids)} in all")
        parts = self.senses(ids).split(list(counts))
        return torch.stack([part.sum(0) if pool == "sum" else part.mean(0) for part in parts])

    def scores(self, vectors: Tensor, by: By) -> Tensor:
        """What vectors say of each token, ``[..., token]`` for ``[..., d_model]``: the logit that they add, or the
        cosine with the token's row of E."""
        found = vectors @ self.directions.T
        return found if by == "dot" else found / (vectors.norm(dim=-1)[..., None] * self.lengths)

    def chosen(self, senses: Sequence[int]) -> tuple[int, ...]:
        """Sense indices, all where none is named. Raises ``CallerError`` for one that there is not."""
        n = self.lexicon.n_senses
        wrong = next((sense for sense in senses if not 0 <= sense < n), None)
        if wrong is not None:
            raise CallerError(f"sense {wrong} is not there: the model has senses 0 to {n - 1}")
        return tuple(senses) or tuple(range(n))

    def chunks(self, bytes_each: int) -> Iterator[range]:
        """All tokens, in ranges of which each holds ``CHUNK_BYTES`` at most."""
        n, size = self.lexicon.n_tokens, max(1, CHUNK_BYTES // max(1, bytes_each))
        return (range(start, min(start + size, n)) for start in range(0, n, size))


def check_top(top: int) -> None:
    """Raises ``CallerError`` for a list of nothing."""
    if top < 1:
        raise CallerError(f"top is {top}, expected 1 or more")


def both_ends(scores: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(most ids, most, least ids, least) of the last axis, ``[..., top]`` each; NaN is at neither end.

    Among equals the lower id comes first. Where there are fewer than ``top`` numbers the list ends with id -1 and NaN.
    """
    most_ids, most = _end(scores, top, 1.0)
    least_ids, least = _end(scores, top, -1.0)
    return most_ids, most, least_ids, least


def _end(scores: Tensor, top: int, sign: float) -> tuple[Tensor, Tensor]:
    signed = (sign * scores).nan_to_num(nan=-torch.inf)
    n = min(top, scores.shape[-1])
    values, ids = signed.topk(n, dim=-1)
    # ``topk`` leaves the order of equals open
    by_id = ids.argsort(dim=-1)
    values, ids = values.gather(-1, by_id), ids.gather(-1, by_id)
    order = values.argsort(dim=-1, descending=True, stable=True)
    values, ids = values.gather(-1, order), ids.gather(-1, order)
    is_none = values.isinf()
    ids, values = ids.masked_fill(is_none, -1), (sign * values).masked_fill(is_none, torch.nan)
    missing = (*scores.shape[:-1], top - n)
    return torch.cat([ids, ids.new_full(missing, -1)], -1), torch.cat([values, values.new_full(missing, torch.nan)], -1)
