"""A model that a plugin built, for architectures that transformers does not know, and what it is built of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its tokenizer, and which weights they are."""

    model: Any
    """A transformers ``PreTrainedModel``, or a module that is called as one is (``input_ids``, ``attention_mask``,
    ``position_ids``, ``past_key_values``, ``use_cache``) and has ``config``; in evaluation mode, on the device and in
    the dtype of the spec."""
    tokenizer: Any
    """A Hugging Face fast tokenizer; ``None``: the model is asked with token ids only."""
    revision: str
    """Hub commit, or ``sha256:...`` of the weights."""
    tokenizer_problem: str = ""
    """Why there is no tokenizer."""
    target_tokenizer: Any = None
    """Of an encoder-decoder model with a tokenizer for each side that of the target."""


class ModelFiles(Protocol):
    """What the source of a ``ModelSpec`` holds: a folder, a bundled model, or a repository of the hub at a commit.

    Nothing is fetched, opened or judged before it is asked for.
    """

    @property
    def config(self) -> Mapping[str, Any]:
        """``config.json``; empty where there is none that can be read, with no reason given."""

    @property
    def folder(self) -> Path:
        """Where the files are. Raises ``CallerError`` where there is none."""

    @property
    def weights(self) -> tuple[Path, ...]:
        """The safetensors files, each complete. Raises ``CallerError`` for pickles, code and damaged files."""

    @property
    def dtype(self) -> Any:
        """The torch dtype of the spec; with ``auto`` that of the weights, but float32 on a CPU for halves."""

    def finished(self, model: Any) -> LoadedModel:
        """``model``, made of ``weights`` and in ``dtype``, as a hook returns it: on its device, with its tokenizer.

        Raises ``CallerError`` for NaN and infinity, for files that changed meanwhile, and where memory does not do.
        """
