"""The built-in site tables: GPT-2 and the Llama family (Llama, Mistral, Qwen2 share one module tree).

Meanings are the same in every family: ``embed`` is without positions, q and k are before rotary embedding, scores
are scaled and before the mask, z is what the output projection mixes, ``resid_mid`` is between the two branches of
a block, ``mlp.post`` is what the last projection of the MLP takes in. An architecture without a table offers raw
module paths, ``embed`` and ``logits``.
"""

from interpd.plugin.site_table import SiteRow, SiteTable

_STREAM = ("batch", "pos", "d_model")
_HEADS = ("batch", "pos", "head", "d_head")
_KV_HEADS = ("batch", "pos", "kv_head", "d_head")
_KEYS = ("batch", "key_pos", "kv_head", "d_head")
_SQUARE = ("batch", "head", "query_pos", "key_pos")
_MLP = ("batch", "pos", "d_mlp")
_LOGITS = ("batch", "pos", "d_vocab")

_Q_DOC = "queries, before rotary embedding where there is one"
_K_DOC = "keys of the positions of this pass, before rotary embedding where there is one; what is written is cached"
_V_DOC = "values of the positions of this pass; what is written is cached"
_K_ROT_DOC = (
    "keys after rotary embedding, past positions included, as this pass attends to them; a write holds for this pass "
    "only, the cache keeps the model's own"
)
_MID_DOC = "residual stream between attention and MLP; a write reaches the MLP and the block's output"


def _stream_rows(block: str, second_norm: str) -> tuple[SiteRow, ...]:
    # mlp.out is the output of the whole MLP: whatever is written inside it, the sum is made of what it gives back
    carry = ("layers.{i}.mlp.out", "layers.{i}.resid_post")
    return (
        SiteRow("layers.{i}.resid_pre", _STREAM, block, "input", doc="residual stream before the block"),
        SiteRow("layers.{i}.resid_mid", _STREAM, f"{block}.{second_norm}", "input", carry=carry, doc=_MID_DOC),
        SiteRow("layers.{i}.resid_post", _STREAM, block, doc="residual stream after the block: resid_mid + mlp.out"),
    )


def _tap_rows(attention: str) -> tuple[SiteRow, ...]:
    taps = f"{attention}.interpd_taps"
    return (
        SiteRow(
            "layers.{i}.attn.scores",
            _SQUARE,
            f"{taps}.scores",
            eager_attention=True,
            doc="scaled attention scores, before the mask",
        ),
        SiteRow(
            "layers.{i}.attn.pattern",
            _SQUARE,
            f"{taps}.pattern",
            eager_attention=True,
            doc="attention probabilities: each row sums to 1",
        ),
    )


_NO_ROTARY = "positions are added to the embedding, there is no rotary step: take attn.q and attn.k"
_NOT_GATED = "the MLP is not gated: take mlp.pre"

GPT2 = SiteTable(
    family="gpt2",
    architectures=("GPT2LMHeadModel",),
    block="transformer.h.{i}",
    attention="transformer.h.{i}.attn",
    softmax_in_float32=False,
    mlp_width=("transformer.h.{i}.mlp.c_proj", "input"),
    rows=(
        SiteRow("embed", _STREAM, "transformer.wte", doc="token embeddings, without positions"),
        *_stream_rows("transformer.h.{i}", "ln_2"),
        SiteRow("layers.{i}.attn.q", _HEADS, "transformer.h.{i}.attn.c_attn", view="fused", part=(0, 3), doc=_Q_DOC),
        SiteRow("layers.{i}.attn.k", _KV_HEADS, "transformer.h.{i}.attn.c_attn", view="fused", part=(1, 3), doc=_K_DOC),
        SiteRow("layers.{i}.attn.v", _KV_HEADS, "transformer.h.{i}.attn.c_attn", view="fused", part=(2, 3), doc=_V_DOC),
        *_tap_rows("transformer.h.{i}.attn"),
        SiteRow(
            "layers.{i}.attn.z",
            _HEADS,
            "transformer.h.{i}.attn.c_proj",
            "input",
            view="heads",
            doc="each head's mixture of values, before the output projection",
        ),
        SiteRow("layers.{i}.attn.out", _STREAM, "transformer.h.{i}.attn.c_proj", doc="what attention adds"),
        SiteRow("layers.{i}.mlp.pre", _MLP, "transformer.h.{i}.mlp.c_fc", doc="MLP neurons before the activation"),
        SiteRow(
            "layers.{i}.mlp.post", _MLP, "transformer.h.{i}.mlp.c_proj", "input", doc="MLP neurons after the activation"
        ),
        SiteRow("layers.{i}.mlp.out", _STREAM, "transformer.h.{i}.mlp", doc="what the MLP adds"),
        SiteRow("ln_final", _STREAM, "transformer.ln_f", doc="output of the final norm"),
        SiteRow("logits", _LOGITS, "lm_head", doc="next-token logits"),
    ),
    absent={
        "layers.{i}.attn.q_rot": _NO_ROTARY,
        "layers.{i}.attn.k_rot": _NO_ROTARY,
        "layers.{i}.mlp.gate": _NOT_GATED,
        "layers.{i}.mlp.up": _NOT_GATED,
    },
)

LLAMA = SiteTable(
    family="llama",
    architectures=("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"),
    block="model.layers.{i}",
    attention="model.layers.{i}.self_attn",
    mlp_width=("model.layers.{i}.mlp.down_proj", "input"),
    rows=(
        SiteRow("embed", _STREAM, "model.embed_tokens", doc="token embeddings"),
        *_stream_rows("model.layers.{i}", "post_attention_layernorm"),
        SiteRow("layers.{i}.attn.q", _HEADS, "model.layers.{i}.self_attn.q_proj", view="heads", doc=_Q_DOC),
        SiteRow("layers.{i}.attn.k", _KV_HEADS, "model.layers.{i}.self_attn.k_proj", view="heads", doc=_K_DOC),
        SiteRow("layers.{i}.attn.v", _KV_HEADS, "model.layers.{i}.self_attn.v_proj", view="heads", doc=_V_DOC),
        SiteRow(
            "layers.{i}.attn.q_rot",
            _HEADS,
            "model.layers.{i}.self_attn.interpd_taps.q_rot",
            view="heads_first",
            eager_attention=True,
            doc="queries after rotary embedding",
        ),
        SiteRow(
            "layers.{i}.attn.k_rot",
            _KEYS,
            "model.layers.{i}.self_attn.interpd_taps.k_rot",
            view="heads_first",
            eager_attention=True,
            doc=_K_ROT_DOC,
        ),
        *_tap_rows("model.layers.{i}.self_attn"),
        SiteRow(
            "layers.{i}.attn.z",
            _HEADS,
            "model.layers.{i}.self_attn.o_proj",
            "input",
            view="heads",
            doc="each head's mixture of values, before the output projection",
        ),
        SiteRow("layers.{i}.attn.out", _STREAM, "model.layers.{i}.self_attn.o_proj", doc="what attention adds"),
        SiteRow("layers.{i}.mlp.gate", _MLP, "model.layers.{i}.mlp.gate_proj", doc="gate, before the activation"),
        SiteRow("layers.{i}.mlp.up", _MLP, "model.layers.{i}.mlp.up_proj", doc="what the activated gate multiplies"),
        SiteRow(
            "layers.{i}.mlp.post",
            _MLP,
            "model.layers.{i}.mlp.down_proj",
            "input",
            doc="MLP neurons: activated gate times up",
        ),
        SiteRow("layers.{i}.mlp.out", _STREAM, "model.layers.{i}.mlp", doc="what the MLP adds"),
        SiteRow("ln_final", _STREAM, "model.norm", doc="output of the final norm"),
        SiteRow("logits", _LOGITS, "lm_head", doc="next-token logits"),
    ),
    absent={"layers.{i}.mlp.pre": "the MLP is gated: take mlp.gate and mlp.up"},
)

TABLES: dict[str, SiteTable] = {name: table for table in (GPT2, LLAMA) for name in table.architectures}
"""The built-in table of each architecture (class name of the model)."""
