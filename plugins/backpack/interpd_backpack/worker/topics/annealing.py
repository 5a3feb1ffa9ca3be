"""How the factors of topic control fade while a sense is being said (Hewitt et al. 2023, D.1).

With ``a_jl = sum_i max(0, E_{x_i} . C(x_j)_l)`` over all tokens ``x_i`` of the text so far, sense l of the token at
place j is scaled by

    code    b delta + (1 - b),   b = sigmoid(-(delta_max / 7.5) a + 6) (1 + j / 100)
    paper   b delta + (1 - a),   b = sigmoid(-(7.5 / delta_max) a + 6) (1 + j) / 100   (equations 18 to 20, as printed)

The published numbers were made with the first; the second is here to be looked at. What is equal to 1 stays 1 in the
first. ``b`` may exceed 1, so that late tokens are scaled by more than ``delta``.

The text so far ends with the position whose weights are scaled, so each query position of a text has factors of its
own: those that a generation would have had there. All of them come from one product, ``n^2 k d`` operations for n
tokens, whose running sums over ``i`` are the increments that a loop would add token by token; a decode step, which has
no loop to remember sums for it, makes the product anew. (The published code makes ``n V k d`` operations and a
``[k, n, V]`` table at each step.)
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interpd.sdk import CallerError, op

PAPER = "https://arxiv.org/abs/2305.16765"


@op("backpack.anneal", paper=PAPER)
def anneal(
    weights: Float[Tensor, "batch sense query_pos key_pos"],
    senses: Float[Tensor, "batch key_pos sense d_model"],
    rows: Float[Tensor, "batch key_pos d_model"],
    factors: Float[Tensor, "batch key_pos sense"],
    *,
    strongest: float,
    formula: Literal["code", "paper"] = "code",
) -> Float[Tensor, "batch sense query_pos key_pos"]:
    """Sense weights times the factors of topic control, as they have faded at each query position.

    Args:
        weights: Of the last ``query_pos`` positions of a text.
        senses: Of all tokens of the text so far, the query positions included.
        rows: Rows of the output embedding for these tokens.
        factors: The factors before they fade.
        strongest: The largest factor of the strength, over all bands.
        formula: Of the published code, or as the paper prints it.
    """
    return weights * annealed(factors, said(senses, rows, weights.shape[-2]), strongest, formula).to(weights.dtype)


def said(senses: Tensor, rows: Tensor, n_queries: int) -> Tensor:
    """``a``: how much of each sense the text up to each query position has said, ``[batch, sense, query, key]``.

    Args:
        senses: ``[batch, key, sense, d_model]``.
        rows: ``[batch, key, d_model]``.
        n_queries: The query positions are so many last ones.
    """
    n_keys = rows.shape[1]
    if not 0 < n_queries <= n_keys:
        raise CallerError(f"{n_queries} query positions of a text of {n_keys} tokens")
    heard = torch.einsum("bjld,bid->blji", _wide(senses), _wide(rows)).clamp(min=0)
    sums = heard.sum(-1, keepdim=True) if n_queries == 1 else heard.cumsum(-1)[..., n_keys - n_queries :]
    return sums.transpose(-1, -2)


def annealed(factors: Tensor, said: Tensor, strongest: float, formula: Literal["code", "paper"]) -> Tensor:
    """The factors as they have faded, ``[batch, sense, query, key]``.

    Args:
        factors: ``[batch, key, sense]``.
        said: ``[batch, sense, query, key]``.
        strongest: The largest factor of the strength.
        formula: See above.

    Raises:
        CallerError: A largest factor of zero or less, by which the paper's scale divides.
    """
    if strongest <= 0:
        raise CallerError(f"the largest factor is {strongest}, expected more than 0")
    delta = factors.to(said.dtype).transpose(1, 2)[:, :, None]
    place = torch.arange(said.shape[-1], device=said.device, dtype=said.dtype)
    if formula == "code":
        blend = torch.sigmoid(6 - strongest / 7.5 * said) * (1 + place / 100)
        # b delta + (1 - b), in the order that leaves a factor of 1 alone
        return 1 + blend * (delta - 1)
    blend = torch.sigmoid(6 - 7.5 / strongest * said) * (1 + place) / 100
    return blend * delta + (1 - said)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
