"""Operations that put an edit in force in one row of a pass: at its senses, at its weights, at its logits.

They take the values of sites and give new ones, so that what is everybody's stays as it is. Of a row without a token
that the edit is about they leave every bit.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from interpd.sdk import CallerError, op
from interpd_backpack.worker.edits.artifacts import SenseOverrides
from interpd_backpack.worker.edits.composing import wide
from interpd_backpack.worker.topics.annealing import annealed, said

PAPER = "https://arxiv.org/abs/2305.16765"


@op("backpack.edit", paper=PAPER)
def edit(
    senses: Float[Tensor, "batch sense pos d_model"], ids: Int64[Tensor, "batch key_pos"], *, overrides: SenseOverrides
) -> Float[Tensor, "batch sense pos d_model"]:
    """The senses of tokens under an edit.

    Those of a token that the edit names are looked up by its id: for gradients by the embeddings, and for writes there,
    they are constants.

    Args:
        senses: Of the last ``pos`` tokens of a text.
        ids: All tokens of the text so far.
        overrides: What ``backpack.compile`` made of the edit.
    """
    ids = _last(ids, senses.shape[2])
    edited = _everywhere(senses, ids, overrides) if overrides.steps else senses
    if overrides.token_ids is None or overrides.rows is None:
        return edited
    places = torch.searchsorted(overrides.token_ids, ids).clamp(max=len(overrides.token_ids) - 1)
    row, pos = (overrides.token_ids[places] == ids).nonzero(as_tuple=True)
    edited = edited.clone()
    edited[row, :, pos] = overrides.rows[places[row, pos]].to(edited.dtype)
    return edited


def _last(ids: Tensor, n_new: int) -> Tensor:
    if n_new > ids.shape[1]:
        raise CallerError(f"there are senses of {n_new} tokens in a text of {ids.shape[1]}")
    return ids[:, ids.shape[1] - n_new :].contiguous()


def _everywhere(senses: Tensor, ids: Tensor, overrides: SenseOverrides) -> Tensor:
    x = wide(senses)
    for step in overrides.steps:
        if "scale" in step:
            x = x * x.new_tensor(step["scale"])[:, None, None]
        elif "table" in step:
            assert overrides.factors is not None
            x = x * overrides.factors[step["table"]][ids].to(x.dtype).transpose(1, 2)[..., None]
        else:
            assert overrides.directions is not None
            way = overrides.directions[step["project"]].to(x.dtype)
            x = x - x.new_tensor(step["shares"])[:, None, None] * (x @ way)[..., None] * way
    return x.to(senses.dtype)


@op("backpack.mask_weights", paper=PAPER)
def mask_weights(
    weights: Float[Tensor, "batch sense query_pos key_pos"], *, overrides: SenseOverrides
) -> Float[Tensor, "batch sense query_pos key_pos"]:
    """Sense weights with those given to the positions of an edit multiplied by its factors.

    Args:
        weights: Of the last ``query_pos`` positions of a text.
        overrides: What ``backpack.compile`` made of the edit.

    Raises:
        CallerError: A position that the text has not.
    """
    n_keys = weights.shape[-1]
    factors = torch.ones_like(wide(weights[:1, :, :1]))
    for step in overrides.positions:
        if beyond := [place for place in step["positions"] if place >= n_keys]:
            raise CallerError(f"the edit is about position {beyond[0]}, the text has {n_keys} tokens")
        factors[..., step["positions"]] *= factors.new_tensor(step["factors"])[:, None, None]
    return (weights * factors).to(weights.dtype)


@op("backpack.fade", paper=PAPER)
def fade(
    weights: Float[Tensor, "batch sense query_pos key_pos"],
    senses: Float[Tensor, "batch key_pos sense d_model"],
    rows: Float[Tensor, "batch key_pos d_model"],
    ids: Int64[Tensor, "batch key_pos"],
    *,
    overrides: SenseOverrides,
) -> Float[Tensor, "batch sense query_pos key_pos"]:
    """Sense weights times the factors of an edit's topics, as they have faded at each query position.

    Args:
        weights: Of the last ``query_pos`` positions of a text.
        senses: The model's own, of all tokens of the text so far.
        rows: Rows of the output embedding for them.
        ids: The tokens.
        overrides: What ``backpack.compile`` made of the edit.
    """
    heard = said(senses, rows, weights.shape[2])
    scaled = wide(weights)
    for one in overrides.fading:
        assert overrides.factors is not None
        scaled = scaled * annealed(overrides.factors[one["table"]][ids], heard, one["strongest"], one["formula"])
    return scaled.to(weights.dtype)


@op("backpack.reweight", paper=PAPER)
def reweight(
    logits: Float[Tensor, "batch query_pos d_vocab"],
    weights: Float[Tensor, "batch sense query_pos key_pos"],
    ids: Int64[Tensor, "batch key_pos"],
    *,
    overrides: SenseOverrides,
) -> Float[Tensor, "batch query_pos d_vocab"]:
    """Logits with contributions that an edit reweights (``negative_only``) multiplied by its factor.

    Args:
        logits: With everything else that the edit does in force.
        weights: Sense weights at their positions.
        ids: All tokens of the text so far.
        overrides: What ``backpack.compile`` made of the edit.
    """
    if overrides.masked_ids is None or overrides.spoken_against is None or overrides.changes is None:
        return logits
    changed = wide(logits).clone()
    for token, words, changes in zip(overrides.masked_ids, overrides.spoken_against, overrides.changes, strict=True):
        is_there = (ids == token).to(changed.dtype)
        given = torch.einsum("blij,bj->bil", wide(weights), is_there)
        for sense in range(len(words)):
            change = given[..., sense, None] * changes[sense].to(changed.dtype)
            changed.index_add_(-1, words[sense], change.to(changed.dtype))
    return changed.to(logits.dtype)
