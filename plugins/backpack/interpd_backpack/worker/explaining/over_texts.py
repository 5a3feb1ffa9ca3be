"""``backpack.contributions_over``: which senses of which tokens make a prediction, over many texts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.explaining.contributions import check_tokens
from interpd_backpack.worker.explaining.parts import READS, Directions, Parts, Quantity, Row, check
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.reading.passes import passes, split

AT_ONCE = 64
"""Predictions of a text whose logits are held in float64 at once."""


@dataclass(frozen=True)
class Overall:
    """Contributions by (token, sense), added up over predictions."""

    types: Int64[Tensor, " _"]
    """The tokens that stand at or before a position that predicts."""
    sums: Float64[Tensor, "_ sense"]
    """``[type sense]``: the sum over predictions."""
    squares: Float64[Tensor, "_ sense"]
    """``[type sense]``: the sum over predictions of the square of what the type adds to each."""
    counts: Int64[Tensor, " _"]
    """``[type]``: predictions that it takes part in."""
    values: Float64[Tensor, " _"]
    """``[prediction]``: the model's own numbers."""
    bases: Float64[Tensor, " _"]
    """``[prediction]``: what comes from elsewhere than the senses."""
    residuals: Float64[Tensor, " _"]
    """``[prediction]``: by how much the parts miss the model's number."""
    targets: Int64[Tensor, " _"]
    """``[prediction]``"""


@method("backpack.contributions_over", paper="https://arxiv.org/abs/2305.16765")
def contributions_over(
    ctx: MethodContext,
    *,
    texts: tuple[int, ...],
    lengths: tuple[int, ...],
    rows: tuple[int, ...],
    positions: tuple[int, ...],
    targets: tuple[int, ...],
    against: tuple[int, ...] = (),
    quantity: Quantity = "logit",
) -> Overall:
    """What senses of tokens add to predictions over many texts, by (token, sense), each exact.

    What there is so far comes as the partial result ``so_far``: a row ``[type, count, *sums]`` for each token.

    Args:
        texts: Tokens of the texts, one behind the other.
        lengths: How many each text has.
        rows: Of each prediction its text.
        positions: Of each prediction the position that predicts.
        targets: Of each prediction the token; -1: the most likely one.
        against: Of each prediction the other token of a difference.
        quantity: As for ``backpack.contributions``.
    """
    lexicon, given = Lexicon(ctx), split(texts, lengths)
    asked = _Asked(quantity, positions, targets, against or (-1,) * len(rows))
    of_texts = asked.by_text(given, rows)
    for pair in set(zip(targets, asked.against, strict=True)):
        check_tokens(lexicon, pair, quantity)
    work, done = _Work(ctx, lexicon, asked), 0
    # a text without predictions is not passed
    used = [number for number, predictions in enumerate(of_texts) if predictions]
    for one in passes([given[number] for number in used], ctx.session.device):
        found = ctx.session.forward(one.ids, reads=READS, lengths=one.lengths)
        for row, (number, length) in enumerate(zip(one.numbers, one.lengths, strict=True)):
            predictions = of_texts[used[number]]
            work.add_text(Row(found, row, length), one.ids[row], found["logits"][row], predictions)
            done += len(predictions)
        ctx.progress(done, len(rows), "predictions")
        work.tell()
    return work.result()


@dataclass(frozen=True)
class _Asked:
    """The predictions that are taken apart: each list has one entry for each."""

    quantity: Quantity
    positions: tuple[int, ...]
    targets: tuple[int, ...]
    against: tuple[int, ...]

    def by_text(self, texts: list[tuple[int, ...]], rows: tuple[int, ...]) -> list[list[int]]:
        """The numbers of each text's predictions. Raises ``CallerError``."""
        if not rows or not len(rows) == len(self.positions) == len(self.targets) == len(self.against):
            said = f"{len(rows)} rows, {len(self.positions)} positions, {len(self.targets)} targets"
            raise CallerError(
                f"there are {said} and {len(self.against)} others, expected one of each for each prediction, and one "
                "prediction at least"
            )
        found: list[list[int]] = [[] for _ in texts]
        for number, (row, position) in enumerate(zip(rows, self.positions, strict=True)):
            if not 0 <= row < len(texts) or not 0 <= position < len(texts[row]):
                raise CallerError(f"prediction {number} is at position {position} of text {row}, which is not there")
            found[row].append(number)
        return found


class _Work:
    """Sums by (token, sense), and what is told of each prediction."""

    def __init__(self, ctx: MethodContext, lexicon: Lexicon, asked: _Asked) -> None:
        self._ctx, self._lexicon, self._asked = ctx, lexicon, asked
        self._directions = Directions(lexicon)
        options = {"dtype": torch.float64, "device": lexicon.device}
        shape, n = (lexicon.unembedding.shape[0], lexicon.n_senses), len(asked.positions)
        self._sums, self._squares = torch.zeros(shape, **options), torch.zeros(shape, **options)
        self._counts = torch.zeros(shape[0], dtype=torch.int64, device=lexicon.device)
        self._numbers = torch.zeros((3, n), **options)
        self._targets = torch.zeros(n, dtype=torch.int64, device=lexicon.device)

    def add_text(self, row: Row, ids: Tensor, logits: Tensor, predictions: list[int]) -> None:
        """Takes in predictions of a text, with its tokens ``[pos]`` and logits ``[pos d_vocab]``."""
        asked = self._asked
        for start in range(0, len(predictions), AT_ONCE):
            self._ctx.raise_if_cancelled()
            some = predictions[start : start + AT_ONCE]
            own = logits[[asked.positions[number] for number in some]]
            best = own[:, : self._lexicon.n_tokens].argmax(-1).tolist()
            given = [asked.targets[number] for number in some]
            targets = [likeliest if target == -1 else target for target, likeliest in zip(given, best, strict=True)]
            found = self._directions(asked.quantity, targets, [asked.against[number] for number in some], own)
            for number, target, direction in zip(some, targets, found, strict=True):
                parts = row.parts(asked.positions[number], direction)
                check(parts, self._ctx.session)
                self._add(number, ids[: asked.positions[number] + 1], parts)
                self._targets[number] = target

    def _add(self, number: int, ids: Tensor, parts: Parts) -> None:
        types, places = ids.unique(return_inverse=True)
        each = parts.contributions.T[: len(ids)]
        of_types = torch.zeros((len(types), each.shape[1]), dtype=each.dtype, device=each.device)
        of_types.index_add_(0, places, each)
        self._sums[types] += of_types
        self._squares[types] += of_types.square()
        self._counts[types] += 1
        self._numbers[:, number] = torch.stack([parts.value, parts.base, parts.residual])

    def tell(self) -> None:
        """Sends the sums so far."""
        types = self._counts.nonzero()
        self._ctx.partial("so_far", torch.cat([types, self._counts[types], self._sums[types[:, 0]]], dim=1))

    def result(self) -> Overall:
        """All of it."""
        types = self._counts.nonzero()[:, 0]
        tables = (table[types] for table in (self._sums, self._squares, self._counts))
        return Overall(types, *tables, *self._numbers, self._targets)
