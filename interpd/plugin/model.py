"""A model that a plugin built, for architectures that transformers does not know."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its tokenizer, and which weights they are."""

    model: Any
    """A transformers ``PreTrainedModel``, or a module that is called as one is (``input_ids``, ``attention_mask``,
    ``position_ids``, ``past_key_values``, ``use_cache``) and has ``config``; in evaluation mode, on the device and in
    the dtype of the spec."""
    tokenizer: Any
    """A Hugging Face fast tokenizer."""
    revision: str
    """Hub commit, or ``sha256:...`` of the weights."""
