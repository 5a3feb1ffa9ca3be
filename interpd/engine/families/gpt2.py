"""GPT-2: learned positions, one fused projection of queries, keys and values, no gate."""

from interpd.engine.families.vocabulary import (
    HEADS,
    K_DOC,
    KV_HEADS,
    LOGITS,
    MLP,
    NO_ROTARY,
    NOT_GATED,
    Q_DOC,
    STREAM,
    V_DOC,
    stream_rows,
    tap_rows,
)
from interpd.plugin.site_table import SiteRow, SiteTable

_QKV = (("head", "d_head"),) * 3

GPT2 = SiteTable(
    family="gpt2",
    architectures=("GPT2LMHeadModel",),
    block="transformer.h.{i}",
    attention="transformer.h.{i}.attn",
    softmax_in_float32=False,
    mlp_width=("transformer.h.{i}.mlp.c_proj", "input"),
    rows=(
        SiteRow("embed", STREAM, "transformer.wte", doc="token embeddings, without positions"),
        *stream_rows("transformer.h.{i}", "ln_2"),
        SiteRow(
            "layers.{i}.attn.q", HEADS, "transformer.h.{i}.attn.c_attn", view="fused", parts=_QKV, part=0, doc=Q_DOC
        ),
        SiteRow(
            "layers.{i}.attn.k", KV_HEADS, "transformer.h.{i}.attn.c_attn", view="fused", parts=_QKV, part=1, doc=K_DOC
        ),
        SiteRow(
            "layers.{i}.attn.v", KV_HEADS, "transformer.h.{i}.attn.c_attn", view="fused", parts=_QKV, part=2, doc=V_DOC
        ),
        *tap_rows("transformer.h.{i}.attn"),
        SiteRow(
            "layers.{i}.attn.z",
            HEADS,
            "transformer.h.{i}.attn.c_proj",
            "input",
            view="heads",
            doc="each head's mixture of values, before the output projection",
        ),
        SiteRow("layers.{i}.attn.out", STREAM, "transformer.h.{i}.attn.c_proj", doc="what attention adds"),
        SiteRow("layers.{i}.mlp.pre", MLP, "transformer.h.{i}.mlp.c_fc", doc="MLP neurons before the activation"),
        SiteRow(
            "layers.{i}.mlp.post", MLP, "transformer.h.{i}.mlp.c_proj", "input", doc="MLP neurons after the activation"
        ),
        SiteRow("layers.{i}.mlp.out", STREAM, "transformer.h.{i}.mlp", doc="what the MLP adds"),
        SiteRow("ln_final", STREAM, "transformer.ln_f", doc="output of the final norm"),
        SiteRow("logits", LOGITS, "lm_head", doc="next-token logits"),
    ),
    absent={
        "layers.{i}.attn.q_rot": NO_ROTARY,
        "layers.{i}.attn.k_rot": NO_ROTARY,
        "layers.{i}.mlp.gate": NOT_GATED,
        "layers.{i}.mlp.up": NOT_GATED,
    },
)
