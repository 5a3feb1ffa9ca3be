"""Texts and examples in files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpd.errors import InvalidRequest


@dataclass(frozen=True)
class Document:
    """A text, and where it is from."""

    name: str
    text: str


def read_documents(paths: Sequence[str | Path]) -> tuple[Document, ...]:
    """The texts of files: a text file is one, of a JSON Lines file each ``{"text": ...}``.

    Raises:
        InvalidRequest: A file that cannot be read, or has no text.
    """
    return tuple(document for path in paths for document in _documents(Path(path)))


def read_records(path: str | Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a JSON Lines file, each behind where it stands.

    Raises:
        InvalidRequest: A file that cannot be read, or a line that is no object.
    """
    # lines end where editors end them, not at every separator of Unicode
    for number, line in enumerate(read_text(Path(path)).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            found = json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"{place} is no JSON: {error}") from None
        if not isinstance(found, Mapping):
            raise InvalidRequest(f"{place} is {type(found).__name__}, expected an object")
        yield place, found


def read_json(path: str | Path) -> Any:
    """What a JSON file holds. Raises ``InvalidRequest``."""
    try:
        return json.loads(read_text(Path(path)))
    except ValueError as error:
        raise InvalidRequest(f"{path} is no JSON: {error}") from None


def read_text(path: Path) -> str:
    """The text of a file. Raises ``InvalidRequest``."""
    try:
        # what spreadsheets write begins with a mark
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{str(path)!r} cannot be read: {error}") from error


def _documents(path: Path) -> Iterator[Document]:
    if path.suffix not in (".jsonl", ".ndjson"):
        text = read_text(path)
        if not text.strip():
            raise InvalidRequest(f"{path} has no text")
        yield Document(path.name, text)
        return
    for place, record in read_records(path):
        if not isinstance(record.get("text"), str) or not record["text"]:
            raise InvalidRequest(f"{place} has no text; its fields are {', '.join(record)}")
        yield Document(place, record["text"])
