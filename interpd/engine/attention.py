"""Eager attention whose scores, pattern and rotated queries and keys can be read and replaced.

The model's own attention (sdpa) never forms the scores. This one computes what the architecture's own eager
attention computes, operation by operation, and passes each intermediate through an identity module (a *tap*)
below the attention module, ``<attention>.interpd_taps.<name>``, so that it is a module output like any other. It
enters through the public attention and mask registries of transformers.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask, prepare_padding_mask

from interpd.engine.model_config import has_encoder
from interpd.engine.stacks import Stack
from interpd.plugin.site_table import SiteTable

EAGER = "interpd_eager"
"""The name under which transformers knows this attention."""

TAPS = "interpd_taps"
"""The submodule that holds the taps."""


class Taps(nn.Module):
    """The identity modules of one attention module, in the order in which they are visited."""

    def __init__(self, softmax_in_float32: bool) -> None:
        super().__init__()
        self.softmax_in_float32 = softmax_in_float32
        self.q_rot = nn.Identity()
        """``[batch head query_pos d_head]``"""
        self.k_rot = nn.Identity()
        """``[batch kv_head key_pos d_head]``, past keys included"""
        self.scores = nn.Identity()
        """``[batch head query_pos key_pos]``, scaled and capped, a bias by position added, before the mask"""
        self.pattern = nn.Identity()
        """``[batch head query_pos key_pos]``, after the softmax"""


def _repeat(heads: Tensor, n: int) -> Tensor:
    # [batch kv_head pos d_head] -> each key head beside the n query heads that share it
    if n == 1:
        return heads
    batch, n_heads, pos, d_head = heads.shape
    return heads[:, :, None].expand(batch, n_heads, n, pos, d_head).reshape(batch, n_heads * n, pos, d_head)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """(output ``[batch pos head d_head]``, pattern), as the architecture's own eager attention computes them.

    Called by transformers. Windows come in with ``attention_mask``; ``dropout`` is 0 except in passes that ask for it,
    and comes behind the tap.
    """
    taps = getattr(module, TAPS)
    query, key = taps.q_rot(query), taps.k_rot(key)
    n_shared = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, _repeat(key, n_shared).transpose(2, 3)) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if position_bias is not None:
        scores = scores + position_bias
    scores = taps.scores(scores)
    softmax_dtype = torch.float32 if taps.softmax_in_float32 else None
    if attention_mask is not None:
        scores = scores + attention_mask
    pattern = taps.pattern(torch.softmax(scores, dim=-1, dtype=softmax_dtype).to(value.dtype))
    kept = nn.functional.dropout(pattern, p=dropout, training=module.training)
    return torch.matmul(kept, _repeat(value, n_shared)).transpose(1, 2).contiguous(), pattern


def seeing_mask(**kwargs: Any) -> Tensor | None:
    """The mask of transformers' own eager attention, strict about padding.

    What it hides has the least number, to which a score that is written may well come down: whoever knocks out all keys
    of a query makes it look at what was hidden. That is the model's own, but padding is not, so a key that is padding
    gets -inf and is looked at by nobody. A padded query, which may see no key at all, sees all: it would become NaN,
    and as a key of the next layer it would make NaN of those to whom it counts nothing.
    """
    mask = eager_mask(**kwargs)
    if mask is None:
        return None
    first, n_keys = kwargs.get("kv_offset", 0), kwargs["kv_length"]
    is_own = prepare_padding_mask(kwargs.get("attention_mask"), n_keys, first)
    if is_own is not None:
        is_padding = ~is_own[:, None, None, first : first + n_keys].bool()
        mask = mask.masked_fill(is_padding, -torch.inf)
    return mask.masked_fill((mask < 0).all(-1, keepdim=True), 0.0)


def eager_obstacle(model: nn.Module, table: SiteTable | None) -> str:
    """Why this model cannot run the eager attention; empty when it can."""
    if table is None or not table.attention:
        return f"eager attention is not known for {type(model).__name__}"
    if (path := table.attention.format(i=0)) not in dict(model.named_modules()):
        return f"the site table names {path!r} as attention, which the model does not have"
    for option in ("reorder_and_upcast_attn", "add_cross_attention"):
        if getattr(model.config, option, False):
            return f"the config sets {option}, which the eager attention does not reproduce"
    return ""


def add_taps(model: nn.Module, stacks: Iterable[Stack]) -> None:
    """Puts the taps into every attention module, and makes the eager attention known to transformers."""
    AttentionInterface.register(EAGER, eager_attention)
    AttentionMaskInterface.register(EAGER, seeing_mask)
    for stack in stacks:
        table = stack.table
        for template in filter(None, (table.attention, table.cross_attention)):
            for layer in range(stack.depth):
                attention = model.get_submodule(template.format(i=layer))
                attention.add_module(TAPS, Taps(table.softmax_in_float32).eval())


class AttentionSwitch:
    """Chooses between a model's own attention and the eager one, between passes."""

    def __init__(self, model: nn.Module) -> None:
        self._config = model.config
        sides = (model.get_encoder(), model.get_decoder()) if has_encoder(model) else ()
        # some models give each side a copy of the config
        self._configs = (model.config, *(side.config for side in sides))
        self.own = getattr(model.config, "_attn_implementation", None)
        """What the model was loaded with, usually ``sdpa``; ``None`` where there is no choice."""
        self._usual = self.own

    @property
    def is_eager(self) -> bool:
        """Whether passes run the eager attention now."""
        return getattr(self._config, "_attn_implementation", None) == EAGER

    def set(self, eager: bool) -> None:
        """Makes the next passes run the eager attention, or the model's own."""
        if eager == self.is_eager:
            return
        self._put(EAGER if eager else self._usual)

    def stand_in(self) -> None:
        """Lets the eager attention run all passes of a model that was loaded with transformers' own eager one: it
        computes the same, and bears rows that are padded in any dtype."""
        if self.own == "eager":
            self._usual = EAGER
            self._put(EAGER)

    def give_back(self) -> None:
        """Leaves the model with the attention that it was loaded with."""
        self._usual = self.own
        self._put(self.own)

    def _put(self, name: str | None) -> None:
        # the setter of the config: `set_attn_implementation` would walk all modules for every pass
        for config in self._configs:
            config._attn_implementation = name
