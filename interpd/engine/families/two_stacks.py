"""What encoder-decoder families have in common: sites of two stacks, made of the rows of one, and cross-attention.

Sites of an encoder begin with ``encoder.``, of a decoder with ``decoder.``; ``logits`` are the decoder's. Positions of
an encoder are ``src_pos``, also along both sides of its patterns (queries, then keys). A block of a decoder has three
branches, and its stream four points: ``resid_pre``, ``resid_cross`` between self-attention and cross-attention,
``resid_mid`` between cross-attention and MLP, ``resid_post``. Keys and values of cross-attention belong to the source:
in a generation they are made at step 0, and what is written there is kept for all later steps.
"""

from collections.abc import Mapping
from dataclasses import replace

from interpd.engine.families.vocabulary import K_DOC, NO_ROTARY, PATTERN_DOC, Q_DOC, SCORES_DOC, STREAM, V_DOC, Rows
from interpd.plugin.site_table import SiteRow

SOURCE = "src_pos"
CROSS = ("batch", "head", "query_pos", SOURCE)
_SOURCE_KV = ("batch", SOURCE, "kv_head", "d_head")
_HEADS = ("batch", "pos", "head", "d_head")
_POSITIONS = ("pos", "query_pos", "key_pos")

ROTARY_ABSENT = {"layers.{i}.attn.q_rot": NO_ROTARY, "layers.{i}.attn.k_rot": NO_ROTARY}

# an encoder caches nothing
_ENCODER_DOCS = {Q_DOC: "queries of the source", K_DOC: "keys of the source", V_DOC: "values of the source"}
CROSS_DOC = "residual stream between self-attention and cross-attention"
MID_DOC = "residual stream between cross-attention and MLP"


def of_encoder(rows: Rows) -> Rows:
    """The rows of one stack as those of an encoder."""
    return tuple(
        replace(
            row,
            axes=tuple(SOURCE if axis in _POSITIONS else axis for axis in row.axes),
            doc=_ENCODER_DOCS.get(row.doc, row.doc),
        )
        for row in _on_side(rows, "encoder")
    )


def of_decoder(rows: Rows) -> Rows:
    """The rows of one stack as those of a decoder."""
    return _on_side(rows, "decoder")


def absent_of(side: str, absent: Mapping[str, str]) -> dict[str, str]:
    """Absent sites of one stack as those of an encoder or decoder; reasons name sites of the same stack."""
    return {f"{side}.{name}": reason for name, reason in absent.items()}


def _on_side(rows: Rows, side: str) -> Rows:
    return tuple(
        replace(
            row,
            name=f"{side}.{row.name}",
            carry=None if row.carry is None else (f"{side}.{row.carry[0]}", f"{side}.{row.carry[1]}"),
            sum_of=tuple(f"{side}.{part}" for part in row.sum_of),
        )
        for row in rows
    )


def cross_rows(attention: str, names: tuple[str, str, str, str], scores_doc: str = SCORES_DOC) -> Rows:
    """Cross-attention: rows without the side; ``names``: the projections of queries, keys, values and of the output."""
    q, k, v, out = names
    stem, taps = "layers.{i}.cross_attn", f"{attention}.interpd_taps"
    kept = "in a generation made at step 0 and kept"
    return (
        SiteRow(f"{stem}.q", _HEADS, f"{attention}.{q}", view="heads", doc="queries of the decoder"),
        SiteRow(f"{stem}.k", _SOURCE_KV, f"{attention}.{k}", view="heads", doc=f"keys of the source; {kept}"),
        SiteRow(f"{stem}.v", _SOURCE_KV, f"{attention}.{v}", view="heads", doc=f"values of the source; {kept}"),
        SiteRow(f"{stem}.scores", CROSS, f"{taps}.scores", eager_attention=True, doc=scores_doc),
        SiteRow(f"{stem}.pattern", CROSS, f"{taps}.pattern", eager_attention=True, doc=PATTERN_DOC),
        SiteRow(
            f"{stem}.z",
            _HEADS,
            f"{attention}.{out}",
            "input",
            view="heads",
            doc="each head's mixture of values of the source, before the output projection",
        ),
        SiteRow(f"{stem}.out", STREAM, f"{attention}.{out}", doc="what cross-attention adds to the stream"),
    )


def decoder_stream_rows(block: str, cross: SiteRow, mid: SiteRow, *, item: int | None = None, norm: str = "") -> Rows:
    """The stream of a block of three branches, without the side.

    Args:
        block: Module path of a layer.
        cross: Where ``resid_cross`` is: path, port and carry are taken of it, and the norm that the sum goes through.
        mid: The same of ``resid_mid``.
        item: Which item of the block's output is the stream.
        norm: Module path of the norm that the last sum goes through; empty: none.
    """
    names = [f"layers.{{i}}.{name}" for name in ("resid_pre", "resid_cross", "resid_mid", "resid_post")]
    added = [f"layers.{{i}}.{name}" for name in ("attn.out", "cross_attn.out", "mlp.out")]
    through = "the norm of " if norm else ""
    pairs = ("resid_pre + attn.out", "resid_cross + cross_attn.out", "resid_mid + mlp.out")
    sums = [f"{through}{pair}" for pair in pairs]
    return (
        SiteRow(names[0], STREAM, block, "input", doc="residual stream before the block"),
        replace(cross, name=names[1], axes=STREAM, sum_of=(names[0], added[0]), doc=f"{CROSS_DOC}: {sums[0]}"),
        replace(mid, name=names[2], axes=STREAM, sum_of=(names[1], added[1]), doc=f"{MID_DOC}: {sums[1]}"),
        SiteRow(
            names[3],
            STREAM,
            block,
            item=item,
            sum_of=(names[2], added[2]),
            sum_through=norm,
            doc=f"residual stream after the block: {sums[2]}",
        ),
    )
