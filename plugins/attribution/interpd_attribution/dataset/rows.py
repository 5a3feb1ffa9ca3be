"""Rows of a dataset: what goes into the model, and what it is to have answered."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interpd.errors import InvalidRequest
from interpd_attribution.contrast import Contrast


@dataclass(frozen=True, slots=True)
class Row:
    """One row. Texts are strings, chat messages or token ids."""

    number: int
    """Its place in the dataset, from 0."""
    input: Any
    generated: Any = None
    """What the model is taken to have answered; ``None``: it is generated first."""
    contrast: Any = None
    """What it might have answered instead; several of them, or a mapping of arguments of ``Contrast``."""
    place: str = ""
    """Where it stands, for messages: ``data.jsonl, line 9``."""
    problem: str = ""
    """Why it cannot be attributed; empty: it can."""

    @property
    def key(self) -> str:
        """The same for rows of the same content, in any run."""
        content = json.dumps([self.input, self.generated, self.contrast], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``model.attribute`` gets beside the texts."""
        if self.contrast is None:
            return {}
        is_named = isinstance(self.contrast, Mapping)
        return {"contrast": Contrast(**self.contrast) if is_named else self.contrast}

    def __str__(self) -> str:
        return f"row {self.number}" + (f" ({self.place})" if self.place else "")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a dataset that hold what is attributed."""

    input: str | None = None
    """``None``: the only one."""
    generated: str | None = None
    contrast: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Those that have a name."""
        return tuple(name for name in (self.input, self.generated, self.contrast) if name is not None)


def rows_of(records: Iterable[tuple[str, Mapping[str, Any]]], fields: Fields, name: str) -> list[Row]:
    """The rows of records, each with its place. A row that lacks a field says so in ``problem``.

    Raises ``InvalidRequest`` when no record has a field, and for a dataset without rows.
    """
    known = list(records)
    if not known:
        raise InvalidRequest(f"{name} has no rows")
    offered = list(dict.fromkeys(key for _, record in known for key in record))
    for field in fields.named:
        if field not in offered:
            raise InvalidRequest(f"{name} has no field {field!r}; its fields are: {', '.join(offered) or 'none'}")
    if fields.input is None:
        if len(offered) != 1:
            raise InvalidRequest(f"say which field of {name} holds the texts, -in FIELD: {', '.join(offered)}")
        fields = Fields(offered[0], fields.generated, fields.contrast)
    return [_row(number, place, record, fields) for number, (place, record) in enumerate(known)]


def _row(number: int, place: str, record: Mapping[str, Any], fields: Fields) -> Row:
    problems = [_problem(field, record.get(field)) for field in fields.named]
    values = [
        None if field is None else record.get(field) for field in (fields.input, fields.generated, fields.contrast)
    ]
    return Row(number, *values, place=place, problem="; ".join(filter(None, problems)))


def _problem(field: str, value: Any) -> str:
    """Why a value is no text; empty when it is one."""
    if value is None:
        return f"field {field!r} is missing"
    if isinstance(value, str):
        return "" if value else f"field {field!r} is empty"
    if isinstance(value, Sequence) and value:
        are_ids = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        if are_ids or all(isinstance(item, Mapping) and "role" in item for item in value):
            return ""
    return f"field {field!r} is {_short(value)}, expected a text, a list of token ids or of chat messages"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
