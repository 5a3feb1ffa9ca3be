"""Lengths of what attention moves, against the bare models' weights."""

import numpy as np
import pytest
import torch

from interpd.errors import InterpdError

SEQUENCE = (5, 40, 77, 120, 33, 9, 210, 64)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def pieces(model, sides, modules):
    """(attentions of the bare model by name, inputs and outputs of modules)."""
    kept = {}
    handles = [
        module.register_forward_hook(
            lambda module, args, output, name=name: kept.update(
                {name: (args[0] if args else None, output[0] if isinstance(output, tuple) else output)}
            )
        )
        for name, module in modules.items()
    ]
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = model(torch.tensor([SEQUENCE]), output_attentions=True, **sides)
    finally:
        model.set_attn_implementation("sdpa")
        for handle in handles:
            handle.remove()
    return out, kept


def of_gpt2(gpt2, layer):
    """What each head moves, ``[head query key d_model]``, and the stream, ``[pos d_model]``."""
    block = gpt2.model.transformer.h[layer]
    out, kept = pieces(gpt2.model, {}, {"fused": block.attn.c_attn, "norm": block.ln_1})
    values = kept["fused"][1][0].split(24, -1)[2].unflatten(-1, (4, 6))
    matrix = block.attn.c_proj.weight.detach().unflatten(0, (4, 6))
    moved = torch.einsum("hqk,khe,hed->hqkd", out.attentions[layer][0], values, matrix)
    return moved.double(), kept["norm"][0][0].double()


def as_columns(lengths):
    return lengths[..., :-1, :].transpose(-1, -2).numpy()


def test_lengths_are_those_of_weighted_values(gpt2):
    moved, stream = of_gpt2(gpt2, 1)
    close(np.nan_to_num(gpt2.trace("attention_norms", per_head=True).scores[1]), as_columns(moved.norm(dim=-1)))
    summed = moved.sum(0)
    close(np.nan_to_num(gpt2.trace("attention_norms").scores[1, 0]), as_columns(summed.norm(dim=-1)))
    kept = summed + torch.diag_embed(stream.T).permute(1, 2, 0)
    close(np.nan_to_num(gpt2.trace("attention_norms", residual=True).scores[1, 0]), as_columns(kept.norm(dim=-1)))


def test_grouped_heads_share_values(llama):
    attention = llama.model.model.layers[2].self_attn
    out, kept = pieces(llama.model, {}, {"v": attention.v_proj})
    values = kept["v"][1][0].unflatten(-1, (2, 10)).repeat_interleave(2, 1)
    matrix = attention.o_proj.weight.detach().T.unflatten(0, (4, 10))
    moved = torch.einsum("hqk,khe,hed->hqkd", out.attentions[2][0], values, matrix)
    found = llama.trace("attention_norms", per_head=True, heads=(3, 1), layers=(2,)).scores[0]
    close(np.nan_to_num(found), as_columns(moved.norm(dim=-1))[[3, 1]])


@pytest.mark.slow
def test_norms_behind_sums_are_taken_at_their_scale(bart):
    block = bart.model.model.decoder.layers[1]
    sides = {"decoder_input_ids": torch.tensor([bart.target])}
    modules = {"v": block.self_attn.v_proj, "norm": block.self_attn_layer_norm, "cross": block.encoder_attn.v_proj}
    out, kept = pieces(bart.model, sides, modules)
    values = kept["v"][1][0].unflatten(-1, (3, 8))
    matrix = block.self_attn.out_proj.weight.detach().T.unflatten(0, (3, 8))
    moved = torch.einsum("hqk,khe,hed->qkd", out.decoder_attentions[1][0], values, matrix).double()
    total, norm = kept["norm"][0][0].double(), block.self_attn_layer_norm
    stream = total - moved.sum(1) - block.self_attn.out_proj.bias.detach()
    kept_too = moved + torch.diag_embed(stream.T).permute(1, 2, 0)
    scale = (total.var(-1, unbiased=False) + norm.eps).rsqrt()[:, None, None]
    behind = (kept_too - kept_too.mean(-1, keepdim=True)) * scale * norm.weight.detach()
    found = bart.trace("attention_norms", inputs="target", residual=True, layer_norm=True).scores[1, 0]
    close(np.nan_to_num(found[len(SEQUENCE) :]), as_columns(behind.norm(dim=-1)))
    values = kept["cross"][1][0].unflatten(-1, (3, 8))
    matrix = block.encoder_attn.out_proj.weight.detach().T.unflatten(0, (3, 8))
    moved = torch.einsum("hqk,khe,hed->qkd", out.cross_attentions[1][0], values, matrix)
    found = bart.trace("attention_norms").scores[1, 0]
    close(found[: len(SEQUENCE)], as_columns(moved.norm(dim=-1)))


@pytest.mark.slow
def test_scores_between_positions_of_one_side(t5):
    out = t5.trace("attention_norms", per_head=True, inputs="source")
    assert out.encoder_self.shape == (2, 4, 8, 8)
    whole = t5.trace("attention_norms", per_head=True)
    close(out.decoder_self[..., :-1], whole.scores[..., 8:, :])
    assert whole.decoder_self.size == 0


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"heads": (1,)}, "per_head=True"),
        ({"per_head": True, "residual": True}, "residual belongs to no head"),
        ({"layer_norm": True}, "no norm stands behind the sum"),
    ],
)
def test_what_is_refused(gpt2, constants, message):
    with pytest.raises(InterpdError, match=message):
        gpt2.trace("attention_norms", **constants)
