"""The tokenizers in a model's folder: one, or of an encoder-decoder model one for each side.

The pair lies in folders below the model's, ``tokenizer-src`` and ``tokenizer-tgt``. A folder that leaves open which
tokenizer is meant is refused: the wrong one would turn a text into other tokens without a word.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from interpd.errors import InvalidRequest

FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "source.spm",
    "target.spm",
    "chat_template.jinja",
)
"""What a tokenizer may be kept in."""

SOURCE, TARGET = "tokenizer-src", "tokenizer-tgt"
FOLDERS = ("", SOURCE, TARGET)
"""Where tokenizers may lie, below the model's folder."""

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True, slots=True)
class Tokenizers:
    """What was found."""

    own: PreTrainedTokenizerFast | None
    """Of prompts; of an encoder-decoder model that of the source."""
    problem: str = ""
    """Why there is none."""
    target: PreTrainedTokenizerFast | None = None
    """Of the target, where it has one of its own."""


def load_tokenizers(folder: Path, *, has_encoder: bool) -> Tokenizers:
    """The tokenizers in ``folder``, where there are any.

    Raises:
        InvalidRequest: A tokenizer that cannot be loaded; files that do not say which one is meant.
    """
    there = [name for name in FOLDERS if _has_vocabulary(folder / name)]
    if not there:
        return Tokenizers(None, "the model's folder holds no tokenizer")
    sides = [name for name in there if name]
    if sides:
        _refuse_ambiguous(folder, there, has_encoder=has_encoder)
        (source, problem), (target, other) = (_load(folder / name) for name in (SOURCE, TARGET))
        return Tokenizers(source, problem or other, target)
    if _is_spm_pair(folder):
        return Tokenizers(
            None,
            "the model's tokenizer is a pair of SentencePiece files (source.spm, target.spm), which transformers reads "
            f"without offsets; convert each to a fast tokenizer in {SOURCE!r} and {TARGET!r}",
        )
    return Tokenizers(*_load(folder))


def _has_vocabulary(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _VOCABULARIES) or _is_spm_pair(folder)


def _is_spm_pair(folder: Path) -> bool:
    """Whether it is kept as those of Marian are, a fast form of which would not say which side it is of."""
    return any((folder / name).is_file() for name in ("source.spm", "target.spm"))


def _refuse_ambiguous(folder: Path, there: list[str], *, has_encoder: bool) -> None:
    where = f"folder {str(folder)!r}"
    if not has_encoder:
        raise InvalidRequest(
            f"{where} holds {there[-1]!r}, but the model has no two sides: put its tokenizer beside config.json"
        )
    if missing := [name for name in (SOURCE, TARGET) if name not in there]:
        raise InvalidRequest(f"{where} holds {there[-1]!r} but no {missing[0]!r}: both sides need a tokenizer")
    if "" in there:
        raise InvalidRequest(
            f"{where} holds a tokenizer beside config.json as well as {SOURCE!r} and {TARGET!r}, so it is not clear "
            "which is meant: remove the one, or the pair"
        )


def _load(folder: Path) -> tuple[PreTrainedTokenizerFast | None, str]:
    """(the tokenizer, why there is none)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **_unknown_kind(folder)
        )
    except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
        raise InvalidRequest(f"the tokenizer in {str(folder)!r} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        return None, f"the model's tokenizer ({type(tokenizer).__name__}) is no fast one and cannot tell offsets"
    return tokenizer, ""


def _unknown_kind(folder: Path) -> dict[str, Any]:
    """The configuration of a model that a plugin knows and transformers does not: given it, it does not warn of it."""
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kind = content.get("model_type")
    is_of_plugin = kind and kind not in CONFIG_MAPPING and "auto_map" not in content
    return {"config": PreTrainedConfig.from_dict(content)} if is_of_plugin else {}
