"""The two files of an edit: ``edit.json`` for reading, ``edit.safetensors`` for vectors and for workers.

Never pickle: a file that somebody sends runs nothing. ``README.md`` has the format.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as st

from interpd.errors import CallerError
from interpd_backpack.edits.writing import check_format

JSON, TENSORS = "edit.json", "edit.safetensors"
KIND = "sense_edit"
"""The kind of artifact that the second file is."""
VECTORS = "vectors"


def write(folder: Path, content: Mapping[str, Any], vectors: np.ndarray) -> Path:
    """Writes the files into ``folder``; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / TENSORS).write_bytes(artifact_bytes(content, vectors))
    return folder


def read(folder: Path) -> tuple[Any, np.ndarray]:
    """The content and the vectors ``[vector d_model]``. Raises ``CallerError`` for files that cannot be read."""
    try:
        content = json.loads((folder / JSON).read_text(encoding="utf-8"))
        # before the other file, which what is no edit does not have
        check_format(content, f"{JSON} in {str(folder)!r}")
        tensors = st.load((folder / TENSORS).read_bytes())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, SafetensorError) as error:
        raise CallerError(f"no edit can be read from {str(folder)!r}: {error}") from error
    vectors = tensors.get(VECTORS, np.zeros((0, 0)))
    if vectors.ndim != 2 or vectors.dtype != np.float64 or tensors.keys() - {VECTORS}:
        raise CallerError(f"{TENSORS} in {str(folder)!r} is of no edit: expected {VECTORS!r}, float64[vector d_model]")
    return content, vectors


def artifact_bytes(content: Mapping[str, Any], vectors: np.ndarray) -> bytes:
    """One safetensors file with the vectors, and all of ``edit.json`` as its metadata ``spec``."""
    spec = json.dumps(json.dumps(content, sort_keys=True))
    return st.save({VECTORS: vectors} if len(vectors) else {}, metadata={"interpd_kind": KIND, "spec": spec})
