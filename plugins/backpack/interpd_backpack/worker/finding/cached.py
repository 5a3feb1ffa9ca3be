"""What is kept of token sequences, so that additions to senses need no more forward passes.

Neither the transformer nor the sense weights depend on the senses. With ``D_c`` added to each pair c of a token and a
sense, the logits of a position are exactly ``E (o + s sum_c A_c D_c)``: o is the mix as it is, A_c the weight of the
pair at that position, summed over the places of its token, and s the scale of the mix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import MethodContext
from interpd_backpack.worker.finding.passes import MIX, passes
from interpd_backpack.worker.lexicon import WEIGHTS


@dataclass(frozen=True)
class Predicted:
    """A token sequence of which some tokens are predicted."""

    ids: Tensor
    """``[pos]``."""
    start: int
    """The first token that counts as predicted; 1 at the least."""


@dataclass(frozen=True)
class Seen:
    """One sequence at the positions that predict something."""

    mix: Tensor
    """o, ``[row d_model]``."""
    targets: Tensor
    """The tokens that come, ``[row]``."""
    tokens: Tensor
    """Those of the sequence that may be edited, each once, ``[token]``, rising."""
    weights: Tensor
    """``[row token sense]``: A, summed over the places of the token."""


@dataclass(frozen=True)
class Rows:
    """Some positions, for a fixed list of pairs of a token and a sense."""

    mix: Tensor
    """o, ``[row d_model]``."""
    targets: Tensor
    """``[row]``."""
    weights: Tensor
    """s A, ``[row pair]``."""

    def moved(self, delta: Tensor) -> Tensor:
        """o with ``delta`` ``[pair d_model]`` added to the senses of the pairs, ``[row d_model]``."""
        return self.mix + self.weights @ delta

    def part(self, rows: slice | Tensor) -> "Rows":
        """Some of them."""
        return Rows(self.mix[rows], self.targets[rows], self.weights[rows])


def seen(ctx: MethodContext, sequences: Sequence[Predicted], what: str, only: Tensor | None = None) -> list[Seen]:
    """What is kept of each sequence, in the order given, in float32 or better.

    Args:
        ctx: Of the method.
        sequences: Each has a token before the first that is predicted.
        what: What they are, for whoever watches.
        only: Tokens that may be edited, rising; ``None``: all.
    """
    found: dict[int, Seen] = {}
    for number, values in passes(ctx, [one.ids for one in sequences], (MIX, WEIGHTS), what):
        sequence = sequences[number]
        rows = slice(sequence.start - 1, len(sequence.ids) - 1)
        weights = wide(values[WEIGHTS][:, rows])
        tokens, places = sequence.ids.to(weights.device).unique(return_inverse=True)
        summed = weights.new_zeros(*weights.shape[:2], len(tokens)).index_add_(2, places, weights)
        if only is not None:
            kept = torch.isin(tokens, only.to(tokens.device))
            tokens, summed = tokens[kept], summed[:, :, kept]
        targets = sequence.ids[sequence.start :].to(weights.device)
        # values of a pass that is shared are views of what all rows have
        found[number] = Seen(wide(values[MIX][rows]).clone(), targets, tokens, summed.permute(1, 2, 0).contiguous())
    return [found[number] for number in range(len(sequences))]


def wide(value: Tensor) -> Tensor:
    """``value`` in float32, or in float64 if it is."""
    return value if value.dtype == torch.float64 else value.float()


def rows_of(one: Seen, tokens: Tensor, senses: Tensor, scale: float) -> Rows:
    """The rows of a sequence for pairs ``(tokens[c], senses[c])``, ``[pair]`` each; pairs of other tokens weigh 0."""
    if not len(one.tokens):
        return Rows(one.mix, one.targets, one.weights.new_zeros(len(one.mix), len(tokens)))
    places = torch.searchsorted(one.tokens, tokens).clamp(max=len(one.tokens) - 1)
    is_here = one.tokens[places] == tokens
    return Rows(one.mix, one.targets, one.weights[:, places, senses] * is_here * scale)


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several sequences as one."""
    return Rows(
        torch.cat([one.mix for one in parts]),
        torch.cat([one.targets for one in parts]),
        torch.cat([one.weights for one in parts]),
    )
