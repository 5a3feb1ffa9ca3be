"""Where a family of architectures keeps its canonical sites: a table, as data.

A plugin that brings an architecture of its own returns such a table from its site-map hook; the built-in ones
stand in ``interpd/engine/families/``. At load every row is probed and self-tested on the very model; a row that
fails is absent from the manifest, with the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One site (of every layer, where the name holds ``{i}``) and its place in the module tree."""

    name: str
    """``layers.{i}.attn.q``; ``{i}`` counts the layers from 0."""
    axes: tuple[str, ...]
    """The axis word of each dimension of what the site shows."""
    path: str
    """Module path from the root of the model, with ``{i}``: ``transformer.h.{i}.attn.c_attn``."""
    port: str = "output"
    """``output`` or ``input`` (then the first tensor among the arguments)."""
    item: int | str | None = None
    """Which item of a tuple output."""
    view: str = ""
    """How the site lies in the tensor: ``""`` (it is the tensor), ``heads`` (the last dimension holds heads side by
    side), ``heads_first`` (``[batch head pos d_head]``), ``fused`` (the last dimension holds ``parts`` side by side),
    ``fused_by_head`` (the last dimension holds heads, each of them its own ``parts``). Rows and positions that the
    model folds into one dimension are told apart without being asked."""
    parts: tuple[tuple[str, ...], ...] = ()
    """For the fused views: the axes of each part, ``(("head", "d_head"), ("kv_head", "d_head"), ...)``."""
    part: int = 0
    """For the fused views: which of ``parts``."""
    carry: tuple[str, str] | None = None
    """(site of the branch, site of the sum), where the model adds a branch to a residual that it kept earlier: after a
    write here the sum becomes ``value + branch``."""
    sum_of: tuple[str, ...] = ()
    """Sites that this one is the sum of, which the self-test proves."""
    made_of: tuple[str, ...] = ()
    """Sites that this one is made of by ``made_by``, a function of their values, which the self-test proves."""
    made_by: Callable[..., Any] | None = None
    sum_through: str = ""
    """Module path, with ``{i}``, of the norm that this sum goes through before it is the site; empty: none."""
    eager_attention: bool = False
    """The place exists only while the model runs interpd's eager attention."""
    doc: str = ""


@dataclass(frozen=True, slots=True)
class SiteTable:
    """The canonical sites of a family of architectures."""

    family: str
    architectures: tuple[str, ...]
    """Class names of the models that share this module tree."""
    block: str
    """Module path of a layer, with ``{i}``."""
    rows: tuple[SiteRow, ...]
    """In no particular order: the forward order is measured. Rows of one name are alternatives: the first whose module
    the model has and runs is taken."""
    attention: str = ""
    """Module path of a layer's attention, with ``{i}``; empty: eager attention is not offered."""
    softmax_in_float32: bool = True
    """Whether the architecture's own eager attention takes the softmax in float32 whatever the model's dtype."""
    cross_attention: str = ""
    """Of the decoder of an encoder-decoder model: module path, with ``{i}``, of a layer's attention to the encoder."""
    rotary: bool = True
    """Whether queries and keys are turned by their positions between ``attn.q``, ``attn.k`` and the scores."""
    position_bias: bool = False
    """Whether a bias by position is added to the scores of self-attention."""
    mlp_width: tuple[str, str] = ("", "")
    """(module path with ``{i}``, port) whose last dimension is ``d_mlp``."""
    activation: str = ""
    """Module path, with ``{i}``, of what turns ``mlp.pre`` (or ``mlp.gate``, before it multiplies ``mlp.up``) into
    ``mlp.post``, which the self-test proves."""
    extends: str = ""
    """An architecture of transformers whose built-in table this one adds its rows to, for a model that holds such a
    model."""
    moved: tuple[str, str] = ("", "")
    """How the module paths of that table begin there, and how they do here: ``("transformer.", "backbone.")``."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """Further axis words of its sites, and the attributes of the config that hold their sizes."""
    follows: tuple[str, ...] = ()
    """Module paths behind the last block that are given more than what the blocks give: embeddings, masks. When rows
    of a pass join between blocks, those arguments of theirs that have the rows of the start follow, which is proved at
    load. Such a model is not cut in two between its blocks."""
    lookups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Module paths, beside embeddings, that turn token ids ``[...]`` into vectors ``[..., *axes]``, and these axes."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Canonical names that this family cannot offer, and why."""
    when: Mapping[str, object] = field(default_factory=dict)
    """Attributes of the config and the values that they must have. An architecture whose config chooses between two
    forms of a block has a table for each."""

    encoder: "SiteTable | None" = None
    """Of an encoder-decoder model: the table of the encoder, whose layers run first. This one is the decoder's then."""

    def fits(self, config: Any) -> bool:
        """Whether ``when`` holds for a model with this config."""
        return all(getattr(config, name, None) == value for name, value in self.when.items())
