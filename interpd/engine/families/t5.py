"""T5 and its descendants of the same code: norms before the branches, positions as a bias of the scores, no biases.

Attention does not divide by the square root of the head's width; ``scores`` of self-attention have the bias by
position in them, those of cross-attention have none. A module holds each branch together with its sum, so that a write
at ``resid_cross`` or ``resid_mid`` reaches branch and stream alike.
"""

from interpd.engine.families.two_stacks import (
    ROTARY_ABSENT,
    absent_of,
    cross_rows,
    decoder_stream_rows,
    of_decoder,
    of_encoder,
)
from interpd.engine.families.vocabulary import (
    EMBED_DOC,
    GATED,
    LOGITS,
    MID_DOC,
    MLP,
    NOT_GATED,
    STREAM,
    Rows,
    output_rows,
    projection_rows,
    tap_rows,
)
from interpd.plugin.site_table import SiteRow, SiteTable

_SCORES_DOC = "products of q and k, not scaled, plus the bias by position; pattern is softmax(scores + mask)"
_CROSS_SCORES_DOC = "products of q and k, not scaled; pattern is softmax(scores + mask)"
_FINAL_DOC = (
    "output of the final norm; where the model ties its embeddings, its logits are made of this divided by the square "
    "root of d_model"
)


def _mlp_rows(mlp: str, *, gated: bool) -> Rows:
    inner = (
        (
            SiteRow("layers.{i}.mlp.gate", MLP, f"{mlp}.wi_0", doc="gate, before the activation"),
            SiteRow("layers.{i}.mlp.up", MLP, f"{mlp}.wi_1", doc="what the activated gate multiplies"),
        )
        if gated
        else (SiteRow("layers.{i}.mlp.pre", MLP, f"{mlp}.wi", doc="MLP neurons before the activation"),)
    )
    post_doc = "MLP neurons: activated gate times up" if gated else "MLP neurons after the activation"
    return (
        *inner,
        SiteRow("layers.{i}.mlp.post", MLP, f"{mlp}.wo", "input", doc=post_doc),
        SiteRow("layers.{i}.mlp.out", STREAM, mlp, doc="what the MLP adds to the stream"),
    )


def _attention_rows(attention: str) -> Rows:
    return (
        *projection_rows(attention, ("q", "k", "v")),
        *tap_rows(attention, _SCORES_DOC),
        *output_rows(f"{attention}.o"),
    )


def _encoder_rows(block: str, *, gated: bool) -> Rows:
    mid, mlp = ("layers.{i}.resid_mid", "layers.{i}.mlp.out")
    return (
        SiteRow("embed", STREAM, "encoder.embed_tokens", doc=EMBED_DOC),
        SiteRow("layers.{i}.resid_pre", STREAM, block, "input", doc="residual stream before the block"),
        SiteRow(
            mid,
            STREAM,
            f"{block}.layer.1",
            "input",
            sum_of=("layers.{i}.resid_pre", "layers.{i}.attn.out"),
            doc=MID_DOC,
        ),
        SiteRow(
            "layers.{i}.resid_post",
            STREAM,
            block,
            item=0,
            sum_of=(mid, mlp),
            doc="residual stream after the block: resid_mid + mlp.out",
        ),
        *_attention_rows(f"{block}.layer.0.SelfAttention"),
        *_mlp_rows(f"{block}.layer.1.DenseReluDense", gated=gated),
        SiteRow("ln_final", STREAM, "encoder.final_layer_norm", doc="output of the final norm"),
    )


def _decoder_rows(block: str, *, gated: bool) -> Rows:
    cross, mid = (SiteRow("", (), f"{block}.layer.{place}", "input") for place in (1, 2))
    return (
        SiteRow("embed", STREAM, "decoder.embed_tokens", doc=EMBED_DOC),
        *decoder_stream_rows(block, cross, mid, item=0),
        *_attention_rows(f"{block}.layer.0.SelfAttention"),
        *cross_rows(f"{block}.layer.1.EncDecAttention", ("q", "k", "v", "o"), _CROSS_SCORES_DOC),
        *_mlp_rows(f"{block}.layer.2.DenseReluDense", gated=gated),
    )


def _t5(*, gated: bool) -> SiteTable:
    encoder, decoder = "encoder.block.{i}", "decoder.block.{i}"
    other_form = {"pre": GATED} if gated else {"gate": NOT_GATED, "up": NOT_GATED}
    absent = {**ROTARY_ABSENT, **{f"layers.{{i}}.mlp.{name}": reason for name, reason in other_form.items()}}
    architectures = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")
    return SiteTable(
        family="t5",
        architectures=architectures,
        when={"is_gated_act": gated},
        block=decoder,
        attention=f"{decoder}.layer.0.SelfAttention",
        cross_attention=f"{decoder}.layer.1.EncDecAttention",
        softmax_in_float32=False,
        rotary=False,
        position_bias=True,
        mlp_width=(f"{decoder}.layer.2.DenseReluDense.wo", "input"),
        activation=f"{decoder}.layer.2.DenseReluDense.act",
        rows=(
            *of_decoder(_decoder_rows(decoder, gated=gated)),
            SiteRow("decoder.ln_final", STREAM, "decoder.final_layer_norm", doc=_FINAL_DOC),
            SiteRow("logits", LOGITS, "lm_head", doc="logits of the next token of the target"),
        ),
        absent=absent_of("decoder", absent),
        encoder=SiteTable(
            family="t5",
            architectures=architectures,
            block=encoder,
            attention=f"{encoder}.layer.0.SelfAttention",
            softmax_in_float32=False,
            rotary=False,
            position_bias=True,
            mlp_width=(f"{encoder}.layer.1.DenseReluDense.wo", "input"),
            activation=f"{encoder}.layer.1.DenseReluDense.act",
            rows=of_encoder(_encoder_rows(encoder, gated=gated)),
            absent=absent_of("encoder", absent),
        ),
    )


T5 = _t5(gated=False)
T5_GATED = _t5(gated=True)
