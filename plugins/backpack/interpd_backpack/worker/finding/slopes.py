"""``backpack.slopes``: how next-token logits move with the scale of each sense of a token, from one forward pass."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.finding.passes import MIX, check_in_front, passes
from interpd_backpack.worker.lexicon import SENSES, WEIGHTS, Lexicon


@dataclass(frozen=True)
class Slopes:
    """Logits behind the last token of each row, and what a factor of each sense adds to them."""

    logits: Float64[Tensor, "row target"]
    """As they are."""
    slopes: Float64[Tensor, "row _ target"]
    """``[row sense target]``: added to the logits by each unit that is added to the factor of that sense."""


@method("backpack.slopes", version=1, paper="arXiv:2305.16765")
def slopes(
    ctx: MethodContext,
    ids: Int64[Tensor, "row pos"],
    scaled: Int64[Tensor, "row piece"],
    targets: Int64[Tensor, " target"],
    *,
    lengths: tuple[int, ...],
) -> Slopes:
    """Logits of targets behind each row, and their slopes in the factors of a token's senses.

    With sense l of the scaled tokens multiplied by p_l wherever they occur, the logits are exactly
    ``logits + sum_l (p_l - 1) slopes[l]``: neither the transformer nor the weights of senses depend on senses. One
    pass over the rows serves all factors. What the graph writes (an edit in force) is in both.

    Args:
        ids: Token ids, padded on the right.
        scaled: Tokens whose senses are scaled together, -1 behind the last one of a row.
        targets: Tokens whose logits are asked for.
        lengths: Tokens of each row.

    Raises:
        CallerError: A row without the token that is to be scaled, or a graph that writes behind the senses.
    """
    lexicon = Lexicon(ctx)
    check_in_front(ctx)
    sequences = _sequences(ids, lengths)
    if not len(scaled) == len(ids):
        raise CallerError(f"there are {len(ids)} rows and {len(scaled)} rows of scaled tokens")
    rows = lexicon.output_rows(targets).double()
    nothing = torch.zeros(1, rows.shape[1], device=lexicon.device, dtype=ctx.session.dtype)
    biases = lexicon.logits(nothing)[0, targets].double()
    found = torch.zeros(len(ids), lexicon.n_senses + 1, len(targets), dtype=torch.float64, device=lexicon.device)
    for number, values in passes(ctx, sequences, (MIX, SENSES, WEIGHTS), "prompts"):
        places = torch.isin(sequences[number], scaled[number].cpu()).to(lexicon.device)
        if not places.any():
            raise CallerError(f"row {number} holds none of the tokens {scaled[number].tolist()} that are to be scaled")
        weights = values[WEIGHTS][:, -1, places].double()
        moved = torch.einsum("lj,ljd->ld", weights, values[SENSES][:, places].double()) * lexicon.output_scale
        found[number, :-1] = moved @ rows.T
        found[number, -1] = values[MIX][-1].double() @ rows.T + biases
    return Slopes(found[:, -1], found[:, :-1])


def _sequences(ids: Tensor, lengths: tuple[int, ...]) -> list[Tensor]:
    """The rows without their padding. Raises ``CallerError``."""
    if len(lengths) != len(ids) or not all(1 <= length <= ids.shape[1] for length in lengths):
        raise CallerError(f"expected {len(ids)} lengths from 1 to {ids.shape[1]}, got {list(lengths)}")
    return [row[:length].cpu() for row, length in zip(ids, lengths, strict=True)]
