"""The sites of a Backpack: those of its GPT-2, and what its senses and their weights are."""

from typing import Any

import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from interpd.sdk import SiteRow, SiteTable

_GPT2 = "backpack.gpt2_model"
_BLOCK = f"{_GPT2}.h.{{i}}"
_TAPS = f"{_BLOCK}.attn.interpd_taps"

_STREAM = ("batch", "pos", "d_model")
_HEADS = ("batch", "pos", "head", "d_head")
_SQUARE = ("batch", "head", "query_pos", "key_pos")
_MLP = ("batch", "pos", "d_mlp")
_QKV = {"path": f"{_BLOCK}.attn.c_attn", "view": "fused"}
_THIRDS = (("head", "d_head"), ("kv_head", "d_head"), ("kv_head", "d_head"))

_STACK = (
    SiteRow("embed", _STREAM, f"{_GPT2}.wte", doc="token embeddings, which both sides are made of: without positions"),
    SiteRow("layers.{i}.resid_pre", _STREAM, _BLOCK, "input", doc="residual stream before the block"),
    SiteRow(
        "layers.{i}.resid_mid",
        _STREAM,
        f"{_BLOCK}.ln_2",
        "input",
        carry=("layers.{i}.mlp.out", "layers.{i}.resid_post"),
        sum_of=("layers.{i}.resid_pre", "layers.{i}.attn.out"),
        doc="residual stream between attention and MLP; a write reaches the MLP and the block's output",
    ),
    SiteRow(
        "layers.{i}.resid_post",
        _STREAM,
        _BLOCK,
        sum_of=("layers.{i}.resid_mid", "layers.{i}.mlp.out"),
        doc="residual stream after the block: resid_mid + mlp.out",
    ),
    SiteRow("layers.{i}.attn.q", _HEADS, **_QKV, parts=_THIRDS, part=0, doc="queries"),
    SiteRow(
        "layers.{i}.attn.k",
        ("batch", "pos", "kv_head", "d_head"),
        **_QKV,
        parts=_THIRDS,
        part=1,
        doc="keys of the positions of this pass; what is written is cached",
    ),
    SiteRow(
        "layers.{i}.attn.v",
        ("batch", "pos", "kv_head", "d_head"),
        **_QKV,
        parts=_THIRDS,
        part=2,
        doc="values of the positions of this pass; what is written is cached",
    ),
    SiteRow(
        "layers.{i}.attn.scores",
        _SQUARE,
        f"{_TAPS}.scores",
        eager_attention=True,
        doc="attention scores, scaled by the head's width and the layer's number; pattern is softmax(scores + mask)",
    ),
    SiteRow(
        "layers.{i}.attn.pattern",
        _SQUARE,
        f"{_TAPS}.pattern",
        eager_attention=True,
        doc="attention probabilities: each row sums to 1",
    ),
    SiteRow(
        "layers.{i}.attn.z",
        _HEADS,
        f"{_BLOCK}.attn.c_proj",
        "input",
        view="heads",
        doc="each head's mixture of values, before the output projection",
    ),
    SiteRow("layers.{i}.attn.out", _STREAM, f"{_BLOCK}.attn.c_proj", doc="what attention adds to the stream"),
    SiteRow("layers.{i}.mlp.pre", _MLP, f"{_BLOCK}.mlp.c_fc", doc="MLP neurons before the activation"),
    SiteRow("layers.{i}.mlp.post", _MLP, f"{_BLOCK}.mlp.c_proj", "input", doc="MLP neurons after the activation"),
    SiteRow("layers.{i}.mlp.out", _STREAM, f"{_BLOCK}.mlp", doc="what the MLP adds to the stream"),
    SiteRow(
        "ln_final",
        _STREAM,
        f"{_GPT2}.ln_f",
        doc="output of the transformer's final norm, of which the sense weights are made; it never enters the logits",
    ),
)

_ABSENT = {
    **dict.fromkeys(
        ("layers.{i}.attn.q_rot", "layers.{i}.attn.k_rot"), "there is no rotary embedding: take attn.q and attn.k"
    ),
    **dict.fromkeys(("layers.{i}.mlp.gate", "layers.{i}.mlp.up"), "the MLP is not gated: take mlp.pre"),
}


_SIDE: dict[str, Any] = {
    "sizes": {"sense": "num_senses"},
    "follows": ("backpack.mixing",),
    "lookups": {"backpack.sense_table": ("sense", "d_model")},
}


def _sense_rows(config: Any) -> tuple[SiteRow, ...]:
    return (
        SiteRow(
            "sense_weights",
            ("batch", "sense", "query_pos", "key_pos"),
            "backpack.sense_weight_net",
            doc="how much each sense of each position counts at each position: sums to 1 over the keys",
        ),
        SiteRow(
            "senses",
            ("batch", "sense", "pos", "d_model"),
            "backpack.sense_network",
            doc="the sense vectors of the positions of this pass; what is written is cached",
        ),
        SiteRow(
            "sense_mix",
            _STREAM,
            "backpack.mixing",
            made_of=("sense_weights", "senses"),
            made_by=lambda weights, senses: mixed(weights, senses, config.sense_output_scale),
            doc="the sum of the senses by their weights: what the logits are the unembedding of (beside another model: "
            "times its gate, what is added to ln_final before)",
        ),
        SiteRow("logits", ("batch", "pos", "d_vocab"), "lm_head", doc="next-token logits"),
    )


def mixed(weights: Tensor, senses: Tensor, scale: float) -> Tensor:
    """``scale * sum_lj weights[b,l,i,j] senses[b,l,j]`` in double precision, ``[batch, pos, d_model]``."""
    return scale * torch.einsum("blij,bljd->bid", weights.double(), senses.double())


def sites_of(config: Any) -> SiteTable | None:
    """The sites of a Backpack, or of senses beside another model; ``None`` for the config of another model."""
    kinds = {"backpack": _sites_of_backpack, "backpack_retrofit": _sites_of_retrofit}
    make = kinds.get(getattr(config, "model_type", ""))
    return None if make is None else make(config)


def _sites_of_retrofit(config: Any) -> SiteTable:
    backbone = MODEL_FOR_CAUSAL_LM_MAPPING[type(config.text_config)]
    return SiteTable(
        family="backpack_retrofit",
        architectures=("RetrofitForCausalLM",),
        block="",
        rows=_sense_rows(config),
        extends=backbone.__name__,
        moved=(f"{backbone.base_model_prefix}.", "backbone."),
        **_SIDE,
    )


def _sites_of_backpack(config: Any) -> SiteTable:
    return SiteTable(
        family="backpack",
        architectures=("BackpackForCausalLM",),
        block=_BLOCK,
        attention=f"{_BLOCK}.attn",
        softmax_in_float32=False,
        rotary=False,
        mlp_width=(f"{_BLOCK}.mlp.c_proj", "input"),
        activation=f"{_BLOCK}.mlp.act",
        rows=(*_STACK, *_sense_rows(config)),
        absent=_ABSENT,
        **_SIDE,
    )
