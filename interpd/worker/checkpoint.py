"""A checkpoint folder, judged before anything of it is loaded: safetensors only, no code, complete."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpd.errors import FeatureUnsupported, ModelNotFound
from interpd.worker.shards import INDEX, WHOLE, read_json, weight_files
from interpd.worker.tokenizer_files import FILES, FOLDERS

WEIGHTS = "*.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

Report = Callable[[str], None]
"""Takes words on how far the loading is."""


def no_report(text: str) -> None:
    """Nothing: nobody wants to know how far the loading is."""


# keys of a config that make transformers load something else than the weights beside it
_REDIRECTIONS = ("transformers_weights", "fusion_config", "kernel_config", "distributed_config")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_CONVERT = (
    "convert it once, where you trust the file: "
    'AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) writes "model.safetensors"'
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that may be loaded."""

    config: Mapping[str, Any]
    files: tuple[Path, ...]
    """The files of its weights."""


def inspect_checkpoint(folder: Path) -> Checkpoint:
    """What is in ``folder``, after all that can be refused without loading was refused.

    Raises:
        ModelNotFound: No config or no weights, or a shard of the weights is missing.
        InvalidRequest: A file that cannot be read.
        FeatureUnsupported: Pickled or quantised weights, code of its own, an adapter.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise FeatureUnsupported(
            f"folder {str(folder)!r} holds an adapter ({ADAPTER_CONFIG}): load the model that it was trained on, and "
            "this folder as one of its adapters"
        )
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"folder {str(folder)!r} holds no model: it has no config.json")
    config = read_json(folder / "config.json")
    _refuse_code(folder, config)
    _refuse_other_weights(folder, config)
    return Checkpoint(config, weight_files(folder))


def folder_revision(folder: Path, report: Report = no_report) -> str:
    """``sha256:`` and the hash over the names and contents of weights, configs and tokenizer files."""
    files = {*folder.glob(WEIGHTS), *folder.glob("*.safetensors.index.json"), folder / "config.json"}
    names = ("generation_config.json", *(f"{sub}/{name}" if sub else name for sub in FOLDERS for name in FILES))
    files |= {path for name in names if (path := folder / name).is_file()}
    total, done = sum(path.stat().st_size for path in files), 0
    whole = hashlib.sha256()
    for path in sorted(files):
        report(f"hashing {path.name}: {done >> 20} of {total >> 20} MiB")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
        done += path.stat().st_size
    return f"sha256:{whole.hexdigest()}"


def _refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    settings = {"config.json": config}
    for name in FOLDERS:
        tokenizer_config = folder / name / "tokenizer_config.json"
        if tokenizer_config.is_file():
            settings[tokenizer_config.relative_to(folder).as_posix()] = read_json(tokenizer_config)
    for name, content in settings.items():
        # also in the config of a part, which is made into a model of its own (CVE-2026-5241)
        if _has_key(content, "auto_map"):
            raise FeatureUnsupported(
                f"{name} of {str(folder)!r} asks for code of its own ('auto_map'), which interpd never runs; "
                "if transformers knows the architecture, serve a copy of the folder without that key"
            )


def _has_key(content: Any, key: str) -> bool:
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    return (isinstance(content, Mapping) and key in content) or any(_has_key(part, key) for part in parts)


def _refuse_other_weights(folder: Path, config: Mapping[str, Any]) -> None:
    parts = (config, *(part for part in config.values() if isinstance(part, dict)))
    if any(part.get("quantization_config") for part in parts):
        raise FeatureUnsupported(
            f"{str(folder)!r} is quantised ('quantization_config' in config.json), which is not served; take a "
            "checkpoint in bfloat16, float16 or float32"
        )
    if strange := next((key for part in parts for key in _REDIRECTIONS if part.get(key)), None):
        raise FeatureUnsupported(
            f"config.json of {str(folder)!r} sets {strange!r}, which changes what is loaded and from where; "
            "serve a copy of the folder without that key"
        )
    if odd := next(folder.glob("shard-*-model-*-of-*.safetensors"), None):
        raise FeatureUnsupported(
            f"folder {str(folder)!r} holds parts of tensors ({odd.name!r}), as distributed training leaves them; "
            "save the model whole with save_pretrained"
        )
    if any((folder / name).is_file() for name in (WHOLE, INDEX)):
        return
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles and not any(folder.glob(WEIGHTS)):
        raise FeatureUnsupported(
            f"folder {str(folder)!r} holds only {pickles[0]!r}, which can run code when it is read; {_CONVERT}"
        )
