"""Predictions that edits are tried on: what is kept of the forward passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_backpack.worker.finding.passes import passes
from interpd_backpack.worker.lexicon import HEAD, WEIGHTS, Lexicon

BEFORE_HEAD = f"{HEAD}.input"


@dataclass(frozen=True)
class Seen:
    """Predictions at positions of texts. All numbers in single precision at least."""

    ids: tuple[Tensor, ...]
    """For each the tokens up to its position, ``[key]``."""
    weights: tuple[Tensor, ...]
    """For each the weight of every sense of these, ``[sense key]``."""
    before_head: Tensor
    """``[item d_model]``: what the logits are made of."""
    scale: float
    """Of the sum of senses."""

    @cached_property
    def tokens(self) -> Tensor:
        """The tokens that occur, ``[token]``, sorted."""
        return torch.cat(self.ids).unique()

    @cached_property
    def mass(self) -> Tensor:
        """The weight of every sense of a token, wherever it stands: ``[item sense token]``."""
        n_senses = len(self.weights[0])
        found = self.before_head.new_zeros(len(self.ids), n_senses, len(self.tokens))
        for item, (ids, weights) in enumerate(zip(self.ids, self.weights, strict=True)):
            found[item].index_add_(1, torch.searchsorted(self.tokens, ids), weights)
        return found


class NearLexicon(Lexicon):
    """A lexicon that has the senses of some tokens at hand, for edit after edit of them.

    Args:
        ctx: Of the method.
        ids: The tokens, sorted, each once.
    """

    def __init__(self, ctx: MethodContext, ids: Tensor) -> None:
        super().__init__(ctx)
        self._near, self._senses = ids, super().senses(ids)

    def senses(self, ids: Tensor | Sequence[int]) -> Tensor:
        """C(x), the sense vectors of tokens: ``[..., sense, d_model]`` for ids ``[...]``."""
        wanted = self._ids(ids)
        places = torch.searchsorted(self._near, wanted).clamp(max=len(self._near) - 1)
        return self._senses[places] if torch.equal(self._near[places], wanted) else super().senses(wanted)


def seen(
    ctx: MethodContext, lexicon: Lexicon, sequences: Sequence[Tensor], rows: Sequence[int], positions: Sequence[int]
) -> Seen:
    """What is kept of one pass over each text.

    Args:
        ctx: Of the method.
        lexicon: Of the model.
        sequences: Token ids, each ``[pos]``.
        rows: For each prediction, of which text.
        positions: At which position of it, from 0.

    Raises:
        CallerError: A row or a position that is not there, a text that is too long, or a graph that writes.
    """
    _check(ctx, sequences, rows, positions)
    ids: list[Tensor | None] = [None] * len(rows)
    weights: list[Tensor | None] = [None] * len(rows)
    states: list[Tensor | None] = [None] * len(rows)
    wanted: dict[int, list[int]] = {}
    for item, row in enumerate(rows):
        wanted.setdefault(row, []).append(item)
    needed = sorted(wanted)
    for one in passes(ctx, [sequences[row] for row in needed], (WEIGHTS, BEFORE_HEAD), "texts"):
        row = needed[one.number]
        for item in wanted[row]:
            place = positions[item]
            ids[item] = sequences[row][: place + 1].to(lexicon.device)
            weights[item] = wide(one.values[WEIGHTS][:, place, : place + 1]).clone()
            states[item] = wide(one.values[BEFORE_HEAD][place]).clone()
    return Seen(tuple(ids), tuple(weights), torch.stack(states), lexicon.output_scale)  # type: ignore[arg-type]


def wide(x: Tensor) -> Tensor:
    """At least single precision."""
    return x if x.dtype == torch.float64 else x.float()


def _check(ctx: MethodContext, sequences: Sequence[Tensor], rows: Sequence[int], positions: Sequence[int]) -> None:
    if ctx.session.written:
        raise CallerError(
            f"the trace writes at {', '.join(map(repr, ctx.session.written))}, but edits are tried on the model as it "
            "is: leave the write out, or make it a part of each edit"
        )
    if not rows or len(rows) != len(positions):
        raise CallerError(
            f"there are {len(rows)} rows and {len(positions)} positions, expected as many, and one at least"
        )
    for row, place in zip(rows, positions, strict=True):
        if not 0 <= row < len(sequences):
            raise CallerError(f"row {row} is not there: there are {len(sequences)} texts")
        if not 0 <= place < len(sequences[row]):
            raise CallerError(f"position {place} is not there: text {row} has {len(sequences[row])} tokens")
