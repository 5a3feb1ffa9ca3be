"""What the canonical sites mean in every family, and makers of the rows that families have in common.

``embed`` is without positions, q and k are before rotary embedding, scores are scaled and before the mask, z is what
the output projection mixes, ``resid_mid`` is between the two branches of a block, ``mlp.post`` is what the last
projection of the MLP takes in.
"""

from interpd.plugin.site_table import SiteRow

STREAM = ("batch", "pos", "d_model")
HEADS = ("batch", "pos", "head", "d_head")
KV_HEADS = ("batch", "pos", "kv_head", "d_head")
KEYS = ("batch", "key_pos", "kv_head", "d_head")
SQUARE = ("batch", "head", "query_pos", "key_pos")
MLP = ("batch", "pos", "d_mlp")
LOGITS = ("batch", "pos", "d_vocab")

Q_DOC = "queries, before rotary embedding where there is one"
K_DOC = "keys of the positions of this pass, before rotary embedding where there is one; what is written is cached"
V_DOC = "values of the positions of this pass; what is written is cached"
K_ROT_DOC = (
    "keys after rotary embedding, past positions included, as this pass attends to them; a write holds for this pass "
    "only, the cache keeps the model's own"
)
MID_DOC = "residual stream between attention and MLP; a write reaches the MLP and the block's output"


def stream_rows(block: str, second_norm: str) -> tuple[SiteRow, ...]:
    # mlp.out is the output of the whole MLP: whatever is written inside it, the sum is made of what it gives back
    carry = ("layers.{i}.mlp.out", "layers.{i}.resid_post")
    return (
        SiteRow("layers.{i}.resid_pre", STREAM, block, "input", doc="residual stream before the block"),
        SiteRow("layers.{i}.resid_mid", STREAM, f"{block}.{second_norm}", "input", carry=carry, doc=MID_DOC),
        SiteRow("layers.{i}.resid_post", STREAM, block, doc="residual stream after the block: resid_mid + mlp.out"),
    )


def tap_rows(attention: str) -> tuple[SiteRow, ...]:
    taps = f"{attention}.interpd_taps"
    return (
        SiteRow(
            "layers.{i}.attn.scores",
            SQUARE,
            f"{taps}.scores",
            eager_attention=True,
            doc="scaled attention scores, before the mask",
        ),
        SiteRow(
            "layers.{i}.attn.pattern",
            SQUARE,
            f"{taps}.pattern",
            eager_attention=True,
            doc="attention probabilities: each row sums to 1",
        ),
    )


NO_ROTARY = "positions are added to the embedding, there is no rotary step: take attn.q and attn.k"
NOT_GATED = "the MLP is not gated: take mlp.pre"
GATED = "the MLP is gated: take mlp.gate and mlp.up"
