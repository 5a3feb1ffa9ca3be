"""Published checkpoints, which are pickles, as folders that a daemon loads: safetensors, a config, a tokenizer.

Offline, and on the machine of whoever trusts the file: what is unpickled is tensors and nothing else
(``weights_only``), after its checksum was shown and, where one is given, found to be right.
"""

import hashlib
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer

from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_backpack.checkpoint.reading import read_tensors, understood
from interpd_backpack.model import BackpackConfig

Report = Callable[[str], None]
"""Takes words on how far it is."""

PROVENANCE = "conversion.json"
"""What the folder was made of."""

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Converted:
    """A folder that was made of a checkpoint."""

    folder: Path
    sources: Mapping[str, str]
    """sha256 of each file that was read, by name."""
    variant: str
    """Which published form it had."""
    n_parameters: int
    has_tokenizer: bool
    """Without one the model is asked with token ids only."""


def convert(
    source: Path | str,
    out: Path | str,
    *,
    tokenizer: Path | str | None = None,
    config: Path | str | Mapping[str, Any] | None = None,
    sha256: str | None = None,
    report: Report | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Converted:
    """The folder of a Backpack that daemons load, made of a published checkpoint.

    Everything is checked before anything is written, and the folder appears whole or not at all.

    Args:
        source: A file (``pytorch_model.bin``, ``*.ckpt``, ``*.safetensors``) or the folder that holds it.
        out: The new folder; there must be nothing there.
        tokenizer: A folder, or a name that transformers knows (``gpt2``); the published repositories have none.
            Without it the one beside the checkpoint, if there is one.
        config: ``config.json``, a folder with one, or its content; without it the one beside the checkpoint. What
            follows from the weights need not be said; the training code's ``.ckpt`` files need ``n_head``.
        sha256: What the one file that is read must hash to, 64 hex digits.
        report: Takes words on how far it is, the checksums among them.
        changes: Entries of the config that are to be others, ``sense_output_scale`` for instance.

    Raises:
        InvalidRequest: No such file, another checksum, a folder that is there already, weights or a config that are
            no Backpack's.
        FeatureUnsupported: A pickle that holds more than tensors; a form of Backpack that computes something else.
    """
    tell = report or (lambda text: None)
    files, beside = _sources(Path(source).expanduser())
    target = Path(out).expanduser()
    if target.exists():
        raise InvalidRequest(f"{str(target)!r} exists already: name a new folder, nothing is overwritten")
    sums = {file.name: _hashed(file, tell) for file in files}
    _check_sum(sums, sha256)
    tell("reading the weights")
    where = f"the checkpoint {str(source)!r}"
    own, weights, variant = understood(_tensors(files), {**_settings(config, beside), **(changes or {})}, where)
    found = _tokenizer(tokenizer, beside, own)
    made = Converted(target, sums, variant, sum(map(Tensor.numel, weights.values())), found is not None)
    tell("writing the folder")
    _write(made, own, weights, found)
    tell(f"{made.n_parameters:,} parameters in {str(target)!r}")
    return made


def _sources(source: Path) -> tuple[list[Path], Path]:
    """(the files of the weights, the folder they lie in)."""
    if source.is_file():
        return [source], source.parent
    if not source.is_dir():
        raise InvalidRequest(f"{str(source)!r} is neither a file nor a folder")
    for pattern in ("*.safetensors", "pytorch_model*.bin", "*.ckpt"):
        if files := sorted(source.glob(pattern)):
            break
    else:
        raise InvalidRequest(f"{str(source)!r} holds no weights: no *.safetensors, pytorch_model*.bin or *.ckpt")
    if len(files) > 1 and files[0].suffix == ".ckpt":
        raise InvalidRequest(f"{str(source)!r} holds {len(files)} *.ckpt files: name the one that is meant")
    return files, source


def _hashed(file: Path, tell: Report) -> str:
    digest, done, size = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            tell(f"hashing {file.name}: {done >> 20} of {size >> 20} MiB")
    tell(f"sha256 of {file.name}: {digest.hexdigest()}")
    return digest.hexdigest()


def _check_sum(sums: Mapping[str, str], expected: str | None) -> None:
    if expected is None:
        return
    if len(sums) != 1:
        raise InvalidRequest(f"a checksum was given, but there are {len(sums)} files: {', '.join(sums)}")
    ((name, found),) = sums.items()
    if found != expected.lower().removeprefix("sha256:"):
        raise InvalidRequest(f"{name!r} hashes to {found}, expected {expected}: it is not the file that was meant")


def _tensors(files: list[Path]) -> dict[str, Tensor]:
    if files[0].suffix == ".safetensors":
        return read_tensors(files)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _unpickled(file)
    return tensors


def _unpickled(file: Path) -> dict[str, Tensor]:
    if file.suffix not in _PICKLES:
        raise InvalidRequest(f"{file.name!r} is none of .safetensors, {', '.join(_PICKLES)}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FeatureUnsupported(
            f"{str(file)!r} holds more than tensors, which would run as code when it is read; it is not read: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except (RuntimeError, OSError, EOFError, BadZipFile, ValueError) as error:
        raise InvalidRequest(f"{str(file)!r} cannot be read: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        # of Lightning, which names what it trains ``model``
        content = {name.removeprefix("model."): tensor for name, tensor in content["state_dict"].items()}
    if not isinstance(content, dict) or not all(isinstance(one, Tensor) for one in content.values()):
        raise InvalidRequest(f"{str(file)!r} holds something else than tensors by their names")
    return content


def _settings(config: Path | str | Mapping[str, Any] | None, beside: Path) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    path = beside / "config.json" if config is None else Path(config).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if config is None and not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{str(path)!r} holds no object")
    return content


def _tokenizer(name: Path | str | None, beside: Path, config: BackpackConfig) -> Any:
    """The tokenizer that goes into the folder, if there is one."""
    if name is None and not (beside / "tokenizer.json").is_file():
        return None
    where = beside if name is None else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
        raise InvalidRequest(f"tokenizer {str(where)!r} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise InvalidRequest(f"tokenizer {str(where)!r} is no fast one and cannot tell offsets")
    if len(tokenizer) > config.vocab_size:
        raise InvalidRequest(
            f"tokenizer {str(where)!r} has {len(tokenizer)} tokens, the Backpack {config.vocab_size}: it is another's"
        )
    return tokenizer


def _write(made: Converted, config: BackpackConfig, weights: Mapping[str, Tensor], tokenizer: Any) -> None:
    """Writes the folder beside its place, and moves it there when it is whole."""
    made.folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{made.folder.name}-", dir=made.folder.parent))
    try:
        config.dtype = next(iter(weights.values())).dtype
        config.save_pretrained(aside)
        # a copy of each: what was loaded may be a view of another
        plain = {name: weight.clone(memory_format=torch.contiguous_format) for name, weight in weights.items()}
        save_file(plain, aside / "model.safetensors", metadata={"format": "pt"})
        if tokenizer is not None:
            tokenizer.save_pretrained(aside)
        content = {name: value for name, value in asdict(made).items() if name != "folder"}
        (aside / PROVENANCE).write_text(json.dumps(content, indent=2) + "\n")
        aside.chmod(0o755)
        try:
            os.rename(aside, made.folder)
        except OSError as error:
            raise InvalidRequest(f"{str(made.folder)!r} cannot be written: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(aside)
