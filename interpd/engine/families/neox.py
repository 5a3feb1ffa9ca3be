"""GPT-NeoX (Pythia) and Phi: rotary positions on a part of each head, MLPs without a gate, often parallel blocks."""

from dataclasses import replace

from interpd.engine.families.vocabulary import (
    EMBED_DOC,
    NOT_GATED,
    PARALLEL,
    STREAM,
    THIRDS_BY_HEAD,
    end_rows,
    fused_rows,
    mlp_rows,
    norm_rows,
    output_rows,
    parallel_stream_rows,
    projection_rows,
    rotary_tap_rows,
    stream_rows,
)
from interpd.plugin.site_table import SiteRow, SiteTable

_ABSENT = {"layers.{i}.mlp.gate": NOT_GATED, "layers.{i}.mlp.up": NOT_GATED}

_N = "gpt_neox.layers.{i}"
_NEOX_ROWS = (
    SiteRow("embed", STREAM, "gpt_neox.embed_in", doc=EMBED_DOC),
    *fused_rows(f"{_N}.attention.query_key_value", THIRDS_BY_HEAD, "fused_by_head"),
    *rotary_tap_rows(f"{_N}.attention"),
    *output_rows(f"{_N}.attention.dense"),
    *mlp_rows(f"{_N}.mlp.dense_h_to_4h", f"{_N}.mlp.dense_4h_to_h", f"{_N}.mlp"),
    *end_rows("gpt_neox.final_layer_norm"),
)

GPT_NEOX = SiteTable(
    family="gpt_neox",
    architectures=("GPTNeoXForCausalLM",),
    when={"use_parallel_residual": True},
    block=_N,
    attention=f"{_N}.attention",
    mlp_width=(f"{_N}.mlp.dense_4h_to_h", "input"),
    activation=f"{_N}.mlp.act",
    rows=(*parallel_stream_rows(_N), *_NEOX_ROWS),
    absent={**_ABSENT, "layers.{i}.resid_mid": PARALLEL},
)

GPT_NEOX_SEQUENTIAL = replace(
    GPT_NEOX,
    when={"use_parallel_residual": False},
    rows=(*stream_rows(_N, "post_attention_layernorm"), *_NEOX_ROWS),
    absent=_ABSENT,
)

_P = "model.layers.{i}"

PHI = SiteTable(
    family="phi",
    architectures=("PhiForCausalLM",),
    block=_P,
    attention=f"{_P}.self_attn",
    mlp_width=(f"{_P}.mlp.fc2", "input"),
    activation=f"{_P}.mlp.activation_fn",
    rows=(
        SiteRow("embed", STREAM, "model.embed_tokens", doc=EMBED_DOC),
        *parallel_stream_rows(_P),
        *norm_rows(f"{_P}.self_attn", ("q_layernorm", "k_layernorm"), "heads_first"),
        *projection_rows(f"{_P}.self_attn"),
        *rotary_tap_rows(f"{_P}.self_attn"),
        *output_rows(f"{_P}.self_attn.dense"),
        *mlp_rows(f"{_P}.mlp.fc1", f"{_P}.mlp.fc2", f"{_P}.mlp"),
        *end_rows("model.final_layernorm"),
    ),
    absent={**_ABSENT, "layers.{i}.resid_mid": PARALLEL},
)
