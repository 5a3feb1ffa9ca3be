"""The Llama module tree and its relatives: rotary positions, grouped heads, a gated MLP."""

from dataclasses import replace

from interpd.engine.families.vocabulary import (
    EMBED_DOC,
    GATED,
    MLP,
    PARALLEL,
    STREAM,
    THIRDS,
    changed_end_rows,
    end_rows,
    fused_rows,
    gated_mlp_end_rows,
    gated_mlp_rows,
    norm_rows,
    output_rows,
    parallel_stream_rows,
    projection_rows,
    rotary_tap_rows,
    stream_rows,
)
from interpd.plugin.site_table import SiteRow, SiteTable

_L = "model.layers.{i}"
_A = f"{_L}.self_attn"
_ABSENT = {"layers.{i}.mlp.pre": GATED}
_EMBED = SiteRow("embed", STREAM, "model.embed_tokens", doc=EMBED_DOC)

LLAMA = SiteTable(
    family="llama",
    architectures=("LlamaForCausalLM",),
    block=_L,
    attention=_A,
    mlp_width=(f"{_L}.mlp.down_proj", "input"),
    activation=f"{_L}.mlp.act_fn",
    rows=(
        _EMBED,
        *stream_rows(_L, "post_attention_layernorm"),
        *projection_rows(_A),
        *rotary_tap_rows(_A),
        *output_rows(f"{_A}.o_proj"),
        *gated_mlp_rows(f"{_L}.mlp"),
        *end_rows("model.norm"),
    ),
    absent=_ABSENT,
)

MISTRAL = replace(LLAMA, family="mistral", architectures=("MistralForCausalLM",))

QWEN2 = replace(LLAMA, family="qwen2", architectures=("Qwen2ForCausalLM",))

# each head's queries and keys are normed: these rows come before those of the projections
QWEN3 = replace(
    LLAMA,
    family="qwen3",
    architectures=("Qwen3ForCausalLM",),
    rows=(*norm_rows(_A, ("q_norm", "k_norm"), ""), *LLAMA.rows),
)

PHI3 = replace(
    LLAMA,
    family="phi3",
    architectures=("Phi3ForCausalLM",),
    activation=f"{_L}.mlp.activation_fn",
    rows=(
        _EMBED,
        *stream_rows(_L, "post_attention_layernorm"),
        *fused_rows(f"{_A}.qkv_proj", THIRDS),
        *rotary_tap_rows(_A),
        *output_rows(f"{_A}.o_proj"),
        SiteRow(
            "layers.{i}.mlp.gate",
            MLP,
            f"{_L}.mlp.gate_up_proj",
            view="fused",
            parts=(("d_mlp",), ("d_mlp",)),
            part=0,
            doc="gate, before the activation",
        ),
        SiteRow(
            "layers.{i}.mlp.up",
            MLP,
            f"{_L}.mlp.gate_up_proj",
            view="fused",
            parts=(("d_mlp",), ("d_mlp",)),
            part=1,
            doc="what the activated gate multiplies",
        ),
        *gated_mlp_end_rows(f"{_L}.mlp"),
        *end_rows("model.norm"),
    ),
)

# norms behind the branches, none before them; q and k are normed as a whole, not head by head
OLMO2 = replace(
    LLAMA,
    family="olmo2",
    architectures=("Olmo2ForCausalLM",),
    rows=(
        _EMBED,
        *stream_rows(_L, "mlp"),
        *norm_rows(_A, ("q_norm", "k_norm"), "heads"),
        *projection_rows(_A),
        *rotary_tap_rows(_A),
        *output_rows(f"{_A}.o_proj", f"{_L}.post_attention_layernorm"),
        *gated_mlp_rows(f"{_L}.mlp", f"{_L}.post_feedforward_layernorm"),
        *end_rows("model.norm"),
    ),
)

_STABLELM_ROWS = (
    _EMBED,
    *norm_rows(_A, ("q_layernorm", "k_layernorm"), "heads_first"),
    *projection_rows(_A),
    *rotary_tap_rows(_A),
    *output_rows(f"{_A}.o_proj"),
    *gated_mlp_rows(f"{_L}.mlp"),
    *end_rows("model.norm"),
)

STABLELM = replace(
    LLAMA,
    family="stablelm",
    architectures=("StableLmForCausalLM",),
    when={"use_parallel_residual": False},
    rows=(*stream_rows(_L, "post_attention_layernorm"), *_STABLELM_ROWS),
)

STABLELM_PARALLEL = replace(
    STABLELM,
    when={"use_parallel_residual": True},
    rows=(*parallel_stream_rows(_L), *_STABLELM_ROWS),
    absent={**_ABSENT, "layers.{i}.resid_mid": PARALLEL},
)

COHERE = replace(
    LLAMA,
    family="cohere",
    architectures=("CohereForCausalLM",),
    rows=(
        _EMBED,
        *parallel_stream_rows(_L),
        *norm_rows(_A, ("q_norm", "k_norm"), ""),
        *projection_rows(_A),
        *rotary_tap_rows(_A),
        *output_rows(f"{_A}.o_proj"),
        *gated_mlp_rows(f"{_L}.mlp"),
        *changed_end_rows("model.norm", "next-token logits, times logit_scale"),
    ),
    absent={**_ABSENT, "layers.{i}.resid_mid": PARALLEL},
)
