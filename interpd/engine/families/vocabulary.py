"""What the canonical sites mean in every family, and makers of the rows that families have in common.

``embed`` is what the model makes of the token ids alone, without positions. The stream of a block runs from
``resid_pre`` over ``resid_mid``, between its two branches, to ``resid_post``; ``attn.out`` and ``mlp.out`` are what is
*added* to it, after a norm or projection that stands behind a branch. q and k are as attention takes them (normed where
the model norms them) before rotary embedding; scores are what the mask is added to before the softmax, so scaled and,
where the model caps them, capped; z is what the output projection mixes; ``mlp.post`` is what the last projection of
the MLP takes in; ``logits`` are what the model returns.
"""

from interpd.plugin.site_table import SiteRow

STREAM = ("batch", "pos", "d_model")
HEADS = ("batch", "pos", "head", "d_head")
KV_HEADS = ("batch", "pos", "kv_head", "d_head")
KEYS = ("batch", "key_pos", "kv_head", "d_head")
SQUARE = ("batch", "head", "query_pos", "key_pos")
MLP = ("batch", "pos", "d_mlp")
LOGITS = ("batch", "pos", "d_vocab")

THIRDS = (("head", "d_head"), ("kv_head", "d_head"), ("kv_head", "d_head"))
"""The parts of a fused projection of queries, keys and values: thirds only where keys have as many heads."""
THIRDS_BY_HEAD = (("d_head",),) * 3
"""The parts of each head where heads lie side by side."""

Rows = tuple[SiteRow, ...]

EMBED_DOC = "token embeddings, without positions"
SCALED_EMBED_DOC = "token embeddings times the square root of d_model: what enters the first block"
Q_DOC = "queries, normed where the model norms them, before rotary embedding where there is one"
K_DOC = (
    "keys of the positions of this pass, normed where the model norms them, before rotary embedding where there is "
    "one; what is written is cached"
)
V_DOC = "values of the positions of this pass; what is written is cached"
K_ROT_DOC = (
    "keys after rotary embedding, past positions included, as this pass attends to them; a write holds for this pass "
    "only, the cache keeps the model's own"
)
SCORES_DOC = "scaled (and, where the model caps them, soft-capped) attention scores; pattern is softmax(scores + mask)"
PATTERN_DOC = "attention probabilities: each row sums to 1"
POST_DOC = "MLP neurons after the activation, times mlp.up where the MLP is gated"
MID_DOC = (
    "residual stream between attention and MLP: resid_pre + attn.out; a write reaches the MLP and the block's output"
)

NO_ROTARY = "there is no rotary embedding: take attn.q and attn.k"
NOT_GATED = "the MLP is not gated: take mlp.pre"
GATED = "the MLP is gated: take mlp.gate and mlp.up"
PARALLEL = (
    "attention and MLP of a block stand side by side, both take resid_pre: there is no stream between them; take "
    "resid_pre, attn.out or mlp.out"
)


def stream_rows(block: str, mid: str) -> Rows:
    """The stream of a block whose MLP comes after attention; ``mid``: what takes ``resid_mid`` in."""
    # mlp.out is what the whole MLP adds: whatever is written inside it, the sum is made of what it gives back
    carry = ("layers.{i}.mlp.out", "layers.{i}.resid_post")
    before, between = ("layers.{i}.resid_pre", "layers.{i}.attn.out"), ("layers.{i}.resid_mid", "layers.{i}.mlp.out")
    return (
        SiteRow("layers.{i}.resid_pre", STREAM, block, "input", doc="residual stream before the block"),
        SiteRow("layers.{i}.resid_mid", STREAM, f"{block}.{mid}", "input", carry=carry, sum_of=before, doc=MID_DOC),
        SiteRow(
            "layers.{i}.resid_post",
            STREAM,
            block,
            sum_of=between,
            doc="residual stream after the block: resid_mid + mlp.out",
        ),
    )


def parallel_stream_rows(block: str) -> Rows:
    """The stream of a block whose attention and MLP both take ``resid_pre``."""
    parts = ("layers.{i}.resid_pre", "layers.{i}.attn.out", "layers.{i}.mlp.out")
    return (
        SiteRow("layers.{i}.resid_pre", STREAM, block, "input", doc="residual stream before the block"),
        SiteRow(
            "layers.{i}.resid_post",
            STREAM,
            block,
            sum_of=parts,
            doc="residual stream after the block: resid_pre + attn.out + mlp.out",
        ),
    )


def projection_rows(attention: str, names: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj")) -> Rows:
    """Queries, keys and values of a projection each, heads side by side."""
    q, k, v = names
    return (
        SiteRow("layers.{i}.attn.q", HEADS, f"{attention}.{q}", view="heads", doc=Q_DOC),
        SiteRow("layers.{i}.attn.k", KV_HEADS, f"{attention}.{k}", view="heads", doc=K_DOC),
        SiteRow("layers.{i}.attn.v", KV_HEADS, f"{attention}.{v}", view="heads", doc=V_DOC),
    )


def norm_rows(attention: str, norms: tuple[str, str], view: str) -> Rows:
    """Queries and keys as they leave their norms; put these rows first where the norms are optional."""
    q, k = norms
    return (
        SiteRow("layers.{i}.attn.q", HEADS, f"{attention}.{q}", view=view, doc=Q_DOC),
        SiteRow("layers.{i}.attn.k", KV_HEADS, f"{attention}.{k}", view=view, doc=K_DOC),
    )


def fused_rows(projection: str, parts: tuple[tuple[str, ...], ...], view: str = "fused") -> Rows:
    """Queries, keys and values of one projection."""
    return (
        SiteRow("layers.{i}.attn.q", HEADS, projection, view=view, parts=parts, part=0, doc=Q_DOC),
        SiteRow("layers.{i}.attn.k", KV_HEADS, projection, view=view, parts=parts, part=1, doc=K_DOC),
        SiteRow("layers.{i}.attn.v", KV_HEADS, projection, view=view, parts=parts, part=2, doc=V_DOC),
    )


def tap_rows(attention: str, scores_doc: str = SCORES_DOC) -> Rows:
    """Scores and pattern, where attention goes through the attention interface of transformers."""
    taps = f"{attention}.interpd_taps"
    return (
        SiteRow("layers.{i}.attn.scores", SQUARE, f"{taps}.scores", eager_attention=True, doc=scores_doc),
        SiteRow("layers.{i}.attn.pattern", SQUARE, f"{taps}.pattern", eager_attention=True, doc=PATTERN_DOC),
    )


def rotary_tap_rows(attention: str) -> Rows:
    """The same with queries and keys after rotary embedding."""
    taps = f"{attention}.interpd_taps"
    q_doc = "queries after rotary embedding"
    return (
        SiteRow("layers.{i}.attn.q_rot", HEADS, f"{taps}.q_rot", view="heads_first", eager_attention=True, doc=q_doc),
        SiteRow(
            "layers.{i}.attn.k_rot", KEYS, f"{taps}.k_rot", view="heads_first", eager_attention=True, doc=K_ROT_DOC
        ),
        *tap_rows(attention),
    )


def output_rows(projection: str, added: str = "") -> Rows:
    """What the output projection takes in and what attention adds: ``added``, where a norm stands behind it."""
    z_doc = "each head's mixture of values, before the output projection"
    out_doc = "what attention adds to the stream" + (", behind the norm of its output" if added else "")
    return (
        SiteRow("layers.{i}.attn.z", HEADS, projection, "input", view="heads", doc=z_doc),
        SiteRow("layers.{i}.attn.out", STREAM, added or projection, doc=out_doc),
    )


def mlp_rows(first: str, last: str, added: str) -> Rows:
    """An MLP of two projections; ``added``: the module that gives what is added to the stream."""
    return (
        SiteRow("layers.{i}.mlp.pre", MLP, first, doc="MLP neurons before the activation"),
        SiteRow("layers.{i}.mlp.post", MLP, last, "input", doc=POST_DOC),
        SiteRow("layers.{i}.mlp.out", STREAM, added, doc="what the MLP adds to the stream"),
    )


def gated_mlp_rows(mlp: str, added: str = "") -> Rows:
    """An MLP whose neurons are an activated gate times up; ``added``: the norm behind it, where there is one."""
    return (
        SiteRow("layers.{i}.mlp.gate", MLP, f"{mlp}.gate_proj", doc="gate, before the activation"),
        SiteRow("layers.{i}.mlp.up", MLP, f"{mlp}.up_proj", doc="what the activated gate multiplies"),
        *gated_mlp_end_rows(mlp, added),
    )


def gated_mlp_end_rows(mlp: str, added: str = "") -> Rows:
    """The end of a gated MLP."""
    out_doc = "what the MLP adds to the stream" + (", behind the norm of its output" if added else "")
    return (
        SiteRow("layers.{i}.mlp.post", MLP, f"{mlp}.down_proj", "input", doc=POST_DOC),
        SiteRow("layers.{i}.mlp.out", STREAM, added or mlp, doc=out_doc),
    )


def end_rows(norm: str) -> Rows:
    """The final norm, and logits that the model returns as its head gives them."""
    return (
        SiteRow("ln_final", STREAM, norm, doc="output of the final norm"),
        SiteRow("logits", LOGITS, "lm_head", doc="next-token logits"),
    )


def changed_end_rows(norm: str, doc: str) -> Rows:
    """The final norm, and logits that the model changes behind its head."""
    return (
        SiteRow("ln_final", STREAM, norm, doc="output of the final norm"),
        SiteRow("logits", LOGITS, "", item="logits", doc=doc),
    )
