"""BART and Marian, whose norms stand behind the sums of stream and branch; Pegasus and mBART, whose norms stand before.

They share their modules. Behind a norm (BART, Marian) each point of the stream is what the norm gives out:
``resid_mid`` is the norm of a sum, and so is ``resid_post``; a write there is all that the model goes on with. The sums
themselves are the inputs of the norms, by their raw paths.
"""

from dataclasses import replace

from interpd.engine.families.two_stacks import (
    ROTARY_ABSENT,
    absent_of,
    cross_rows,
    decoder_stream_rows,
    of_decoder,
    of_encoder,
)
from interpd.engine.families.vocabulary import (
    LOGITS,
    NOT_GATED,
    STREAM,
    Rows,
    mlp_rows,
    output_rows,
    projection_rows,
    stream_rows,
    tap_rows,
)
from interpd.plugin.site_table import SiteRow, SiteTable

_ENCODER, _DECODER = "model.encoder.layers.{i}", "model.decoder.layers.{i}"
_ABSENT = {**ROTARY_ABSENT, "layers.{i}.mlp.gate": NOT_GATED, "layers.{i}.mlp.up": NOT_GATED}
_NO_FINAL_NORM = "the last block ends in a norm, there is none behind it: take its resid_post"

_SCALED_LATER_DOC = (
    "token embeddings, without positions; the model multiplies them by the square root of d_model behind this site, "
    "where the config sets scale_embedding"
)
_SCALED_DOC = (
    "token embeddings, without positions; times the square root of d_model where the config sets scale_embedding"
)
_LOGITS_DOC = "logits of the next token of the target, the final bias added"


def _branch_rows(block: str) -> Rows:
    attention = f"{block}.self_attn"
    return (
        *projection_rows(attention),
        *tap_rows(attention),
        *output_rows(f"{attention}.out_proj"),
        *mlp_rows(f"{block}.fc1", f"{block}.fc2", f"{block}.fc2"),
    )


def _cross_rows() -> Rows:
    return cross_rows(f"{_DECODER}.encoder_attn", ("q_proj", "k_proj", "v_proj", "out_proj"))


def _table(family: str, architecture: str, encoder: Rows, decoder: Rows, *, final_norm: bool) -> SiteTable:
    absent = _ABSENT if final_norm else {**_ABSENT, "ln_final": _NO_FINAL_NORM}

    def stack(block: str, **fields: object) -> SiteTable:
        return SiteTable(
            family=family,
            architectures=(architecture,),
            block=block,
            attention=f"{block}.self_attn",
            softmax_in_float32=False,
            rotary=False,
            mlp_width=(f"{block}.fc2", "input"),
            activation=f"{block}.activation_fn",
            **fields,
        )

    logits = SiteRow("logits", LOGITS, "", item="logits", doc=_LOGITS_DOC)
    return stack(
        _DECODER,
        cross_attention=f"{_DECODER}.encoder_attn",
        rows=(*of_decoder((*decoder, *_branch_rows(_DECODER), *_cross_rows())), logits),
        absent=absent_of("decoder", absent),
        encoder=stack(
            _ENCODER,
            rows=of_encoder((*encoder, *_branch_rows(_ENCODER))),
            absent=absent_of("encoder", absent),
        ),
    )


def _behind_norms(family: str, architecture: str, embed_doc: str) -> SiteTable:
    """A table of blocks whose norms stand behind the sums."""
    attention_norm, final = "self_attn_layer_norm", "final_layer_norm"
    encoder = (
        SiteRow("embed", STREAM, "model.encoder.embed_tokens", doc=embed_doc),
        SiteRow("layers.{i}.resid_pre", STREAM, _ENCODER, "input", doc="residual stream before the block"),
        SiteRow(
            "layers.{i}.resid_mid",
            STREAM,
            f"{_ENCODER}.{attention_norm}",
            sum_of=("layers.{i}.resid_pre", "layers.{i}.attn.out"),
            sum_through=f"{_ENCODER}.{attention_norm}",
            doc="residual stream between attention and MLP: the norm of resid_pre + attn.out",
        ),
        SiteRow(
            "layers.{i}.resid_post",
            STREAM,
            _ENCODER,
            sum_of=("layers.{i}.resid_mid", "layers.{i}.mlp.out"),
            sum_through=f"{_ENCODER}.{final}",
            doc="residual stream after the block: the norm of resid_mid + mlp.out",
        ),
    )
    paths = (f"{_DECODER}.{attention_norm}", f"{_DECODER}.encoder_attn_layer_norm")
    cross, mid = (SiteRow("", (), path, sum_through=path) for path in paths)
    decoder = (
        SiteRow("embed", STREAM, "model.decoder.embed_tokens", doc=embed_doc),
        *decoder_stream_rows(_DECODER, cross, mid, norm=f"{_DECODER}.{final}"),
    )
    return _table(family, architecture, encoder, decoder, final_norm=False)


def _before_norms(family: str, architecture: str, embed_doc: str) -> SiteTable:
    """A table of blocks whose norms stand before the branches."""
    carries = [("layers.{i}.cross_attn.out", "layers.{i}.resid_mid"), ("layers.{i}.mlp.out", "layers.{i}.resid_post")]
    cross = SiteRow("", (), f"{_DECODER}.encoder_attn_layer_norm", "input", carry=carries[0])
    mid = replace(cross, path=f"{_DECODER}.final_layer_norm", carry=carries[1])
    final = "output of the final norm"
    encoder = (
        SiteRow("embed", STREAM, "model.encoder.embed_tokens", doc=embed_doc),
        *stream_rows(_ENCODER, "final_layer_norm"),
        SiteRow("ln_final", STREAM, "model.encoder.layer_norm", doc=final),
    )
    decoder = (
        SiteRow("embed", STREAM, "model.decoder.embed_tokens", doc=embed_doc),
        *decoder_stream_rows(_DECODER, cross, mid),
        SiteRow("ln_final", STREAM, "model.decoder.layer_norm", doc=final),
    )
    return _table(family, architecture, encoder, decoder, final_norm=True)


BART = _behind_norms("bart", "BartForConditionalGeneration", _SCALED_DOC)
MARIAN = _behind_norms("marian", "MarianMTModel", _SCALED_LATER_DOC)
PEGASUS = _before_norms("pegasus", "PegasusForConditionalGeneration", _SCALED_LATER_DOC)
MBART = _before_norms("mbart", "MBartForConditionalGeneration", _SCALED_DOC)
