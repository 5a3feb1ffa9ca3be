"""What a plugin may say about models: how to load one that transformers does not know, and where its sites are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that a plugin built for a ``ModelSpec``."""

    model: Any
    """A ``torch.nn.Module`` that is called as a Hugging Face causal model is (``input_ids``, ``attention_mask``,
    ``use_cache``, ...), has ``config``, and is in evaluation mode on the device and in the dtype of the spec."""
    tokenizer: Any
    """A Hugging Face fast tokenizer."""
    revision: str
    """Hub commit, or ``sha256:...`` of the weights."""


@dataclass(frozen=True, slots=True)
class SitePlace:
    """Where one site lives in the module tree of a model."""

    name: str
    """``senses``; with ``{i}`` for one site per layer: ``layers.{i}.resid_post``."""
    path: str
    """Module path from the root of the model: ``transformer.h.{i}``."""
    axes: tuple[str, ...] = ("batch", "pos", "d_model")
    """Axis words of the tensor; dimension 0 is rows."""
    port: str = "output"
    """``input`` or ``output`` of the module."""
    item: int | str | None = None
    """Which item of a tuple output, or which argument of the input; ``None``: it is one tensor."""
    view: Callable[[Any], Any] | None = None
    """Turns the tensor at the module into what the site means; differentiable. ``None``: it is the tensor itself."""
    merge: Callable[[Any, Any], Any] | None = None
    """``merge(full, value)``: a new full tensor with the site replaced; needed where ``view`` is given and the site is
    to be writable."""
    doc: str = ""
    """What the site holds, for the manifest."""


@dataclass(frozen=True, slots=True)
class SiteMap:
    """The canonical sites of one architecture, as data.

    The engine puts each of them through its self-test when a model is loaded (declared shape; an identity write leaves
    the logits bit-identical; a noise write changes them) and offers only what passes.
    """

    family: str
    """A name for the architecture: ``backpack``."""
    places: tuple[SitePlace, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of axis words: ``{'d_model': 768, 'sense': 16}``."""
    n_layers: int = 0
    """How many values ``{i}`` takes."""
