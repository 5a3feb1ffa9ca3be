"""Backpacks as models of a daemon: from folders, bundled models and the hub, always safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from interpd.errors import CallerError, FeatureUnsupported, InvalidRequest
from interpd.sdk import LoadedModel, ModelFiles, ModelSpec
from interpd_backpack.checkpoint.names import is_backpack
from interpd_backpack.checkpoint.reading import RETROFIT, read_backpack, read_retrofit, tensor_names

_TYPES = ("gpt2", "backpack", "backpack-gpt2")
"""What Backpacks call themselves; the weights of others are not looked at."""


def loaded(spec: ModelSpec, files: ModelFiles) -> LoadedModel | None:
    """The Backpack that a source holds; ``None`` where it holds none.

    Raises ``CallerError`` for a Backpack that cannot be loaded, and says what to do.
    """
    config = files.config
    if config.get("model_type") == RETROFIT:
        files.weights  # noqa: B018  judged before anything is read
        return _silent(files.finished(read_retrofit(files.folder, files.dtype)))
    if not _holds_backpack(config, files):
        return None
    where = f"the Backpack in {str(files.folder)!r}"
    _refuse_as_published(spec, files, where)
    model = read_backpack(files.weights, config, files.dtype, where)
    if (files.folder / "generation_config.json").is_file():
        model.generation_config = _generation(files.folder)
    return _silent(files.finished(model))


def _generation(folder: Path) -> GenerationConfig:
    """How texts of this model are continued and where they end, as it was saved with it."""
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"generation_config.json in {str(folder)!r} cannot be read: {error}") from error


def _silent(found: LoadedModel) -> LoadedModel:
    """The model, which never says the rows of its vocabulary that no token has: they are there for a round number."""
    model, tokenizer = found.model, found.tokenizer
    if tokenizer is not None:
        n_tokens = max(tokenizer.get_vocab().values()) + 1
        padding = set(range(n_tokens, model.get_input_embeddings().num_embeddings))
        never = padding.union(model.generation_config.suppress_tokens or ())
        model.generation_config.suppress_tokens = sorted(never) or None
    return found


def _holds_backpack(config: Mapping[str, Any], files: ModelFiles) -> bool:
    if is_backpack(config):
        return True
    if config.get("model_type") not in _TYPES:
        return False
    try:
        return is_backpack(config, tensor_names(sorted(files.folder.glob("*.safetensors"))))
    except CallerError:
        # a damaged file is told of by whoever loads it
        return False


def _refuse_as_published(spec: ModelSpec, files: ModelFiles, where: str) -> None:
    has_code = "auto_map" in files.config
    if not has_code and any(files.folder.glob("*.safetensors")):
        return
    what = "asks for code of its own ('auto_map')" if has_code else "has no safetensors"
    source = str(files.folder) if Path(spec.source).expanduser().is_dir() else "pytorch_model.bin"
    raise FeatureUnsupported(
        f"{where} {what}, as it was published; interpd runs no code and reads no pickles of models: convert it once, "
        f"interpd backpack convert {source} NEW_FOLDER --tokenizer gpt2"
    )
