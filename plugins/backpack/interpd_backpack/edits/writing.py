"""Edits as JSON and vectors, and back: what files, artifacts and digests are made of."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from hashlib import sha256
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.edits.fingerprint import Fingerprint
from interpd_backpack.edits.operations import OPERATIONS, Operation
from interpd_backpack.edits.places import Token

FORMAT = "interpd-backpack-edit"
VERSION = 1


def spelled_out(operations: Sequence[Operation], name: str, base: Fingerprint) -> tuple[dict[str, Any], np.ndarray]:
    """The content of ``edit.json`` without its digest, and the vectors ``[vector d_model]`` that it counts."""
    vectors: list[np.ndarray] = []
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "base": asdict(base),
        "operations": [_written(one, vectors) for one in operations],
    }
    return content, np.stack(vectors) if vectors else np.zeros((0, base.d_model))


def digest_of(content: Mapping[str, Any], vectors: np.ndarray) -> str:
    """``sha256:...`` of the canonical JSON (sorted keys, no spaces, ASCII) and of the vectors' bytes, little-endian."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return f"sha256:{sha256(text.encode() + vectors.astype('<f8').tobytes()).hexdigest()}"


def parsed(content: Any, vectors: np.ndarray, where: str) -> tuple[tuple[Operation, ...], str, Fingerprint]:
    """What ``spelled_out`` wrote, with its digest: operations, name, base. Raises ``CallerError``."""
    check_format(content, where)
    if content.get("version") != VERSION:
        raise CallerError(
            f"{where} has version {content.get('version')!r} of {FORMAT}, but this package reads version {VERSION}"
        )
    said = content.get("digest")
    found = digest_of({key: value for key, value in content.items() if key != "digest"}, vectors)
    if said != found:
        raise CallerError(f"{where} was changed or is damaged: its digest is {found}, it says {said}")
    try:
        operations = tuple(_read(one, vectors) for one in content["operations"])
        return operations, content["name"], Fingerprint(**content["base"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CallerError(f"{where} is damaged: {type(error).__name__}: {error}") from error


def check_format(content: Any, where: str) -> None:
    """Raises ``CallerError`` for JSON that is of something else."""
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return
    if not isinstance(content, dict):
        said = f"a {type(content).__name__}"
    else:
        said = repr(content["format"]) if "format" in content else "none"
    raise CallerError(f"{where} is no edit: expected 'format': {FORMAT!r} in its JSON, got {said}")


def _written(operation: Operation, vectors: list[np.ndarray]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            vectors.append(value)
            return {"vector": len(vectors) - 1}
        if isinstance(value, Token):
            return {"id": value.id, "text": value.text}
        return [plain(one) for one in value] if isinstance(value, tuple) else value

    return {"operation": operation.kind, **{name: plain(value) for name, value in operation.values().items()}}


def _read(content: Mapping[str, Any], vectors: np.ndarray) -> Operation:
    def made(value: Any) -> Any:
        if isinstance(value, Mapping):
            return vectors[value["vector"]] if "vector" in value else Token(value["id"], value["text"])
        return (
            tuple(made(one) for one in value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        )

    kind: Callable[..., Operation] = OPERATIONS[content["operation"]]
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(content.keys() - known - {"operation"}):
        raise ValueError(f"{content['operation']} has no {', '.join(unknown)}")
    return kind(**{name: made(value) for name, value in content.items() if name != "operation"})
