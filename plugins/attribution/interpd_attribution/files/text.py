"""Files of JSON, compressed or not."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

from interpd.errors import CallerError

GZIP = b"\x1f\x8b"


def write_json(path: Path, value: object, *, compress: bool, overwrite: bool, for_inseq: bool = False) -> None:
    """Writes ``value``; without ``overwrite`` a file that is there stays and ``CallerError`` is raised.

    Inseq reads its files in the encoding of the system, so those are ASCII; they are laid out as it does.
    """
    look = {"ensure_ascii": True, "indent": 4, "sort_keys": True} if for_inseq else {"ensure_ascii": False}
    try:
        data = encoded(json.dumps(value, allow_nan=False, **look))
    except (TypeError, ValueError) as error:
        raise CallerError(f"{path} cannot be written: {error}; info must hold plain JSON values") from error
    if compress:
        data = gzip.compress(data, compresslevel=5, mtime=0)
    refuse_existing((path,), overwrite)
    try:
        path.write_bytes(data)
    except FileNotFoundError as error:
        raise CallerError(f"{path} cannot be written: there is no folder {path.parent}; make it first") from error


def read_json(path: Path) -> object:
    """What the file holds; whether it is compressed, its first bytes say."""
    try:
        data = path.read_bytes()
        if data.startswith(GZIP):
            data = gzip.decompress(data)
        return json.loads(data.decode("utf-8"))
    except FileNotFoundError as error:
        raise CallerError(f"no file {path}") from error
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise CallerError(f"{path} is no JSON file: {error}") from error


def encoded(text: str) -> bytes:
    """UTF-8. Halves of characters, which tokens may be, are written as JSON's escapes."""
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text).encode("utf-8")


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Raises ``CallerError`` for the first path that exists, unless it may be overwritten."""
    for path in paths:
        if path.exists() and not overwrite:
            raise CallerError(f"{path} exists; overwrite=True replaces it")


def paths_for(path: Path, n_files: int, *, split: bool, compress: bool) -> list[Path]:
    """One path, or one for each sequence: ``out.json`` becomes ``out_0.json``, ``out_1.json``, ..."""
    if not split:
        return [path]
    stem = path.name.split(".json")[0]
    return [path.with_name(f"{stem}_{number}.json{'.gz' if compress else ''}") for number in range(n_files)]


def is_compressed(path: Path, compress: bool | None) -> bool:
    """What the caller says, or else the ending of the name."""
    return path.suffix == ".gz" if compress is None else compress
