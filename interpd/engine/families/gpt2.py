"""GPT-2 and its open relatives with learned positions: GPT-Neo, OPT."""

from interpd.engine.families.vocabulary import (
    EMBED_DOC,
    LOGITS,
    NO_ROTARY,
    NOT_GATED,
    PATTERN_DOC,
    SQUARE,
    STREAM,
    THIRDS,
    end_rows,
    fused_rows,
    mlp_rows,
    output_rows,
    projection_rows,
    stream_rows,
    tap_rows,
)
from interpd.plugin.site_table import SiteRow, SiteTable

_ABSENT = {
    "layers.{i}.attn.q_rot": NO_ROTARY,
    "layers.{i}.attn.k_rot": NO_ROTARY,
    "layers.{i}.mlp.gate": NOT_GATED,
    "layers.{i}.mlp.up": NOT_GATED,
}

_H = "transformer.h.{i}"

GPT2 = SiteTable(
    family="gpt2",
    architectures=("GPT2LMHeadModel",),
    block=_H,
    attention=f"{_H}.attn",
    softmax_in_float32=False,
    rotary=False,
    mlp_width=(f"{_H}.mlp.c_proj", "input"),
    activation=f"{_H}.mlp.act",
    rows=(
        SiteRow("embed", STREAM, "transformer.wte", doc=EMBED_DOC),
        *stream_rows(_H, "ln_2"),
        *fused_rows(f"{_H}.attn.c_attn", THIRDS),
        *tap_rows(f"{_H}.attn"),
        *output_rows(f"{_H}.attn.c_proj"),
        *mlp_rows(f"{_H}.mlp.c_fc", f"{_H}.mlp.c_proj", f"{_H}.mlp"),
        *end_rows("transformer.ln_f"),
    ),
    absent=_ABSENT,
)

# its attention is a function of its own: it ends in a dropout that is given the pattern, before it the scores are
# scaled by nothing, and masked and normalised in one go
GPT_NEO = SiteTable(
    family="gpt_neo",
    architectures=("GPTNeoForCausalLM",),
    block=_H,
    rotary=False,
    mlp_width=(f"{_H}.mlp.c_proj", "input"),
    activation=f"{_H}.mlp.act",
    rows=(
        SiteRow("embed", STREAM, "transformer.wte", doc=EMBED_DOC),
        *stream_rows(_H, "ln_2"),
        *projection_rows(f"{_H}.attn.attention"),
        SiteRow("layers.{i}.attn.pattern", SQUARE, f"{_H}.attn.attention.attn_dropout", doc=PATTERN_DOC),
        *output_rows(f"{_H}.attn.attention.out_proj"),
        *mlp_rows(f"{_H}.mlp.c_fc", f"{_H}.mlp.c_proj", f"{_H}.mlp"),
        *end_rows("transformer.ln_f"),
    ),
    absent={
        **_ABSENT,
        "layers.{i}.attn.scores": "GPT-Neo computes scores in a function of its own, out of reach: they are q times k, "
        "not scaled; take attn.q, attn.k or attn.pattern",
    },
)

_D = "model.decoder.layers.{i}"
_OPT_ATTENTION = (
    *projection_rows(f"{_D}.self_attn"),
    *tap_rows(f"{_D}.self_attn"),
    *output_rows(f"{_D}.self_attn.out_proj"),
)
_OPT_EMBED = (
    SiteRow(
        "embed",
        STREAM,
        "model.decoder.project_in",
        doc="token embeddings, projected to d_model where they are narrower, without positions",
    ),
    SiteRow("embed", STREAM, "model.decoder.embed_tokens", doc=EMBED_DOC),
)

# the MLP has no module of its own, and folds rows and positions
OPT = SiteTable(
    family="opt",
    architectures=("OPTForCausalLM",),
    when={"do_layer_norm_before": True},
    block=_D,
    attention=f"{_D}.self_attn",
    rotary=False,
    mlp_width=(f"{_D}.fc2", "input"),
    activation=f"{_D}.activation_fn",
    rows=(
        *_OPT_EMBED,
        *stream_rows(_D, "final_layer_norm"),
        *_OPT_ATTENTION,
        *mlp_rows(f"{_D}.fc1", f"{_D}.fc2", f"{_D}.fc2"),
        *end_rows("model.decoder.final_layer_norm"),
    ),
    absent=_ABSENT,
)

OPT_POST_NORM = SiteTable(
    family="opt",
    architectures=("OPTForCausalLM",),
    when={"do_layer_norm_before": False},
    block=_D,
    attention=f"{_D}.self_attn",
    rotary=False,
    mlp_width=(f"{_D}.fc2", "input"),
    activation=f"{_D}.activation_fn",
    rows=(
        *_OPT_EMBED,
        SiteRow("layers.{i}.resid_pre", STREAM, _D, "input", doc="residual stream before the block"),
        SiteRow(
            "layers.{i}.resid_mid",
            STREAM,
            f"{_D}.self_attn_layer_norm",
            sum_of=("layers.{i}.resid_pre", "layers.{i}.attn.out"),
            sum_through=f"{_D}.self_attn_layer_norm",
            doc="residual stream between attention and MLP: the norm of resid_pre + attn.out",
        ),
        SiteRow(
            "layers.{i}.resid_post",
            STREAM,
            _D,
            sum_of=("layers.{i}.resid_mid", "layers.{i}.mlp.out"),
            sum_through=f"{_D}.final_layer_norm",
            doc="residual stream after the block: the norm of resid_mid + mlp.out",
        ),
        *_OPT_ATTENTION,
        *mlp_rows(f"{_D}.fc1", f"{_D}.fc2", f"{_D}.fc2"),
        SiteRow("logits", LOGITS, "lm_head", doc="next-token logits"),
    ),
    absent={**_ABSENT, "ln_final": "the last block ends in a norm, there is none behind it: take its resid_post"},
)
