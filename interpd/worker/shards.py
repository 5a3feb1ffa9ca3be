"""The files that hold the weights of a checkpoint: found, opened and judged before any tensor is read.

A checkpoint is one file, ``model.safetensors``, or several with an index that says which tensor lies where. The index
is data from a stranger: it may name only files beside itself, and each of them once.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from interpd.errors import FeatureUnsupported, InvalidRequest, ModelNotFound

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
JSON_BYTES = 64 << 20
"""The largest index or config that is read."""

# as a safetensors header spells them
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_PLAIN = {*_FLOATS, "I64", "I32", "I16", "I8", "U8", "BOOL"}

FileState = tuple[str, int, int, int]
"""Path, size, time of change and number of a file."""


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights, each complete. Where there are both, the single file counts, not the index.

    Raises:
        ModelNotFound: There is neither; or a file that the index names is not here.
        InvalidRequest: A damaged file or index, a file outside of the folder, a tensor in two files or in none.
        FeatureUnsupported: Weights that are neither plain floating numbers nor integers.
    """
    if (folder / WHOLE).is_file():
        _opened(folder / WHOLE)
        return (folder / WHOLE,)
    if not (folder / INDEX).is_file():
        raise ModelNotFound(f"folder {str(folder)!r} holds no weights: it has neither {WHOLE!r} nor {INDEX!r}")
    weight_map = _weight_map(folder / INDEX)
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        few = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ModelNotFound(f"folder {str(folder)!r} lacks {len(missing)} of {len(names)} weight files: {few}")
    _check_tensors(folder, weight_map, {name: _opened(folder / name) for name in names})
    return tuple(folder / name for name in names)


def has_weights(folder: Path) -> bool:
    """Whether all files are here that the weights should be in, whatever is in them."""
    if (folder / WHOLE).is_file() or not (folder / INDEX).is_file():
        return (folder / WHOLE).is_file()
    return all((folder / name).is_file() for name in _weight_map(folder / INDEX).values())


def stored_dtype(files: Sequence[Path]) -> str:
    """The dtype of the first floating tensor in these files, as torch spells it; ``float32`` where there is none."""
    for path in files:
        for kind in _opened(path).values():
            if kind in _FLOATS:
                return _FLOATS[kind]
    return "float32"


def file_states(files: Sequence[Path]) -> tuple[FileState, ...]:
    """What tells whether somebody has written to the files since."""
    states = ((path, path.stat()) for path in files)
    return tuple((str(path), state.st_size, state.st_mtime_ns, state.st_ino) for path, state in states)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ``InvalidRequest``, also for a key that is there twice."""
    try:
        if path.stat().st_size > JSON_BYTES:
            raise ValueError(f"it is larger than {JSON_BYTES >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_distinct)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{str(path)!r} holds {type(content).__name__}, expected an object")
    return content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice[:200]!r} is there twice")
    return found


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    weight_map = content.get("weight_map")
    if not isinstance(content.get("metadata"), dict) or not isinstance(weight_map, dict) or not weight_map:
        raise InvalidRequest(f"{str(index)!r} is no index of weights: it needs the objects 'metadata' and 'weight_map'")
    for tensor, name in weight_map.items():
        # a name, not a path: nothing outside of the folder is opened
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise InvalidRequest(
                f"{str(index)!r} puts tensor {tensor!r} into {name!r}, expected a safetensors file beside it"
            )
    return weight_map


def _opened(path: Path) -> dict[str, str]:
    """The dtype of each tensor in a file."""
    try:
        with safe_open(path, framework="pt") as file:
            kinds = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InvalidRequest(
            f"weight file {path.name!r} in {str(path.parent)!r} is damaged or cut ({error}); fetch it again"
        ) from error
    odd = next((name for name, kind in kinds.items() if kind not in _PLAIN), None)
    if odd is not None:
        raise FeatureUnsupported(
            f"weight file {path.name!r} in {str(path.parent)!r} holds {odd!r} as {kinds[odd]}: quantised weights are "
            "not served; take a checkpoint in bfloat16, float16 or float32"
        )
    return kinds


def _check_tensors(folder: Path, weight_map: Mapping[str, str], found: Mapping[str, Mapping[str, str]]) -> None:
    for tensor, name in weight_map.items():
        if tensor not in found[name]:
            raise InvalidRequest(
                f"weight file {name!r} in {str(folder)!r} lacks tensor {tensor!r}, which {INDEX!r} puts there: "
                "shards and index are not of one checkpoint"
            )
    owners: dict[str, str] = {}
    for name, tensors in found.items():
        for tensor in tensors:
            if tensor in owners:
                raise InvalidRequest(
                    f"tensor {tensor!r} is in two weight files of {str(folder)!r}: {owners[tensor]!r} and {name!r}"
                )
            owners[tensor] = name
