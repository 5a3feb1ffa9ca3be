"""``backpack.contributions_over``: which senses of which tokens make a prediction, over many texts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.explaining.contributions import check_tokens
from interpd_backpack.worker.explaining.parts import READS, Directions, Parts, Quantity, check, parts_of
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.reading.passes import passes, split


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

    The sums so far come as partial results ``types``, ``sums`` and ``counts``.

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
    others = against or (-1,) * len(rows)
    asked = _asked(given, rows, positions, targets, others)
    for target, other in set(zip(targets, others, strict=True)):
        check_tokens(lexicon, (target, other), quantity)
    work = _Work(ctx, lexicon, len(rows))
    directions, done = Directions(lexicon), 0
    # a text without predictions is not passed
    used = [number for number in range(len(given)) if asked[number]]
    for one in passes([given[number] for number in used], ctx.session.device):
        found = ctx.session.forward(one.ids, reads=READS, lengths=one.lengths)
        for row, (number, length) in enumerate(zip(one.numbers, one.lengths, strict=True)):
            for prediction in asked[used[number]]:
                place, target = positions[prediction], targets[prediction]
                logits = found["logits"][row, place]
                chosen = target if target != -1 else int(logits[: lexicon.n_tokens].argmax())
                direction = directions(quantity, chosen, others[prediction], logits)
                parts = parts_of(found, row, length, place, direction)
                check(parts, ctx.session)
                work.add(prediction, one.ids[row, : place + 1], parts, chosen)
        done += sum(len(asked[used[number]]) for number in one.numbers)
        ctx.progress(done, len(rows), "predictions")
        work.tell()
    return work.result()


def _asked(
    texts: list[tuple[int, ...]],
    rows: tuple[int, ...],
    positions: tuple[int, ...],
    targets: tuple[int, ...],
    others: tuple[int, ...],
) -> list[list[int]]:
    """The predictions of each text. Raises ``CallerError``."""
    if not rows or not len(rows) == len(positions) == len(targets) == len(others):
        said = f"{len(rows)} rows, {len(positions)} positions, {len(targets)} targets and {len(others)} others"
        raise CallerError(f"there are {said}, expected one of each for each prediction, and one prediction at least")
    found: list[list[int]] = [[] for _ in texts]
    for number, (row, position) in enumerate(zip(rows, positions, strict=True)):
        if not 0 <= row < len(texts) or not 0 <= position < len(texts[row]):
            raise CallerError(f"prediction {number} is at position {position} of text {row}, which is not there")
        found[row].append(number)
    return found


class _Work:
    """Sums by (token, sense), and what is told of each prediction."""

    def __init__(self, ctx: MethodContext, lexicon: Lexicon, n: int) -> None:
        self._ctx = ctx
        options = {"dtype": torch.float64, "device": lexicon.device}
        shape = (lexicon.unembedding.shape[0], lexicon.n_senses)
        self._sums, self._squares = torch.zeros(shape, **options), torch.zeros(shape, **options)
        self._counts = torch.zeros(shape[0], dtype=torch.int64, device=lexicon.device)
        self._numbers = torch.zeros((3, n), **options)
        self._targets = torch.zeros(n, dtype=torch.int64, device=lexicon.device)

    def add(self, number: int, ids: Tensor, parts: Parts, target: int) -> None:
        """Takes in a prediction; ``ids`` are the tokens up to it."""
        types, places = ids.unique(return_inverse=True)
        each = parts.contributions.T[: len(ids)]
        of_types = torch.zeros((len(types), each.shape[1]), dtype=each.dtype, device=each.device)
        of_types.index_add_(0, places, each)
        self._sums[types] += of_types
        self._squares[types] += of_types.square()
        self._counts[types] += 1
        self._numbers[:, number] = torch.stack([parts.value, parts.base, parts.residual])
        self._targets[number] = target

    def tell(self) -> None:
        """Sends the sums so far."""
        types = self._counts.nonzero()[:, 0]
        for name, table in (("types", types), ("sums", self._sums[types]), ("counts", self._counts[types])):
            self._ctx.partial(name, table)

    def result(self) -> Overall:
        """All of it."""
        types = self._counts.nonzero()[:, 0]
        tables = (table[types] for table in (self._sums, self._squares, self._counts))
        return Overall(types, *tables, *self._numbers, self._targets)
