"""A checkpoint folder, judged before anything of it is loaded: safetensors only, no code, complete."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interpd.errors import FeatureUnsupported, InvalidRequest, ModelNotFound

WEIGHTS = "*.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
)
"""What a tokenizer may be kept in."""

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_CONVERT = (
    "convert it once, where you trust the file: "
    'AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) writes "model.safetensors"'
)


def inspect_checkpoint(folder: Path) -> Mapping[str, Any]:
    """The config of the model in ``folder``, after all that can be refused without loading was refused.

    Raises:
        ModelNotFound: No config or no weights, or a shard of the weights is missing.
        InvalidRequest: A file that cannot be read.
        FeatureUnsupported: Pickled weights, code of its own, an encoder-decoder model.
    """
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"folder {str(folder)!r} holds no model: it has no config.json")
    config = _read_json(folder / "config.json")
    _refuse_code(folder, config)
    if config.get("is_encoder_decoder"):
        raise FeatureUnsupported(
            f"{str(folder)!r} is an encoder-decoder model ({config.get('model_type')}), expected a decoder-only one"
        )
    _check_weights(folder)
    return config


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds a tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in _VOCABULARIES)


def folder_revision(folder: Path) -> str:
    """``sha256:`` and the hash over the names and contents of weights, configs and tokenizer files."""
    whole = hashlib.sha256()
    files = {*folder.glob(WEIGHTS), *folder.glob("*.safetensors.index.json"), folder / "config.json"}
    files |= {path for name in TOKENIZER_FILES if (path := folder / name).is_file()}
    for path in sorted(files):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name} {digest}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidRequest(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{str(path)!r} holds {type(content).__name__}, expected an object")
    return content


def _refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    tokenizer_config = folder / "tokenizer_config.json"
    settings = {"config.json": config}
    if tokenizer_config.is_file():
        settings["tokenizer_config.json"] = _read_json(tokenizer_config)
    for name, content in settings.items():
        if "auto_map" in content:
            raise FeatureUnsupported(
                f"{name} of {str(folder)!r} asks for code of its own ('auto_map'), which interpd never runs; "
                "if transformers knows the architecture, serve a copy of the folder without that key"
            )


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(_read_json(index).get("weight_map", {}).values())
        missing = sorted(name for name in shards if not (folder / name).is_file())
        if missing:
            raise ModelNotFound(f"folder {str(folder)!r} lacks {len(missing)} weight files: {', '.join(missing[:3])}")
    if any(folder.glob(WEIGHTS)):
        return
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        raise FeatureUnsupported(
            f"folder {str(folder)!r} holds only {pickles[0]!r}, which can run code when it is read; {_CONVERT}"
        )
    raise ModelNotFound(f"folder {str(folder)!r} holds no weights: no file matches {WEIGHTS!r}")
