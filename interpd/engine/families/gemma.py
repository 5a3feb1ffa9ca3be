"""Gemma, Gemma 2 and 3: scaled embeddings, norms behind the branches, soft caps, windows."""

from dataclasses import replace

from interpd.engine.families.llama import LLAMA
from interpd.engine.families.vocabulary import (
    GATED,
    SCALED_EMBED_DOC,
    STREAM,
    Rows,
    changed_end_rows,
    gated_mlp_rows,
    norm_rows,
    output_rows,
    projection_rows,
    rotary_tap_rows,
    stream_rows,
)
from interpd.plugin.site_table import SiteRow, SiteTable

_CAPPED_DOC = "next-token logits, soft-capped where the model caps them"


def _gemma(family: str, architecture: str, root: str, *, norms_heads: bool) -> SiteTable:
    """A table of Gemma 2 or 3, whose text model stands at ``root``."""
    block = f"{root}.layers.{{i}}"
    attention = f"{block}.self_attn"
    heads: Rows = norm_rows(attention, ("q_norm", "k_norm"), "heads_first") if norms_heads else ()
    return SiteTable(
        family=family,
        architectures=(architecture,),
        block=block,
        attention=attention,
        mlp_width=(f"{block}.mlp.down_proj", "input"),
        activation=f"{block}.mlp.act_fn",
        rows=(
            SiteRow("embed", STREAM, f"{root}.embed_tokens", doc=SCALED_EMBED_DOC),
            *stream_rows(block, "pre_feedforward_layernorm"),
            *heads,
            *projection_rows(attention),
            *rotary_tap_rows(attention),
            *output_rows(f"{attention}.o_proj", f"{block}.post_attention_layernorm"),
            *gated_mlp_rows(f"{block}.mlp", f"{block}.post_feedforward_layernorm"),
            *changed_end_rows(f"{root}.norm", _CAPPED_DOC),
        ),
        absent={"layers.{i}.mlp.pre": GATED},
    )


GEMMA = replace(
    LLAMA,
    family="gemma",
    architectures=("GemmaForCausalLM",),
    rows=(SiteRow("embed", STREAM, "model.embed_tokens", doc=SCALED_EMBED_DOC), *LLAMA.rows[1:]),
)

GEMMA2 = _gemma("gemma2", "Gemma2ForCausalLM", "model", norms_heads=False)

GEMMA3 = _gemma("gemma3", "Gemma3ForCausalLM", "model", norms_heads=True)

# the text side of the checkpoints that also see images
GEMMA3_MULTIMODAL = _gemma("gemma3", "Gemma3ForConditionalGeneration", "model.language_model", norms_heads=True)
