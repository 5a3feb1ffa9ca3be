"""Contrasts as Inseq's users write them: whole texts, and their settings among those of the method."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from interpd.errors import InvalidRequest
from interpd_attribution.dataset import Row
from interpd_attribution.inseq_words import CONTRAST


def of_rows(kwargs: Mapping[str, Any], n_rows: int) -> list[dict[str, Any]] | None:
    """The arguments of ``Contrast`` for each row; ``None`` where ``kwargs`` say nothing of contrasts.

    Raises ``InvalidRequest`` for other counts of texts than of rows.
    """
    given = {name: kwargs[name] for name in CONTRAST if name in kwargs}
    if not given:
        return None
    if "contrast_targets" not in given and "contrast_sources" not in given:
        raise InvalidRequest(f"--attribution-kwargs: {next(iter(given))} needs contrast_targets or contrast_sources")
    return [
        {CONTRAST[name]: _of_row(name, value, row, n_rows) for name, value in given.items()} for row in range(n_rows)
    ]


def alone(row: Row) -> Row:
    """A row with what follows its input alone, where the input stands before it."""
    return replace(row, generated=_behind(row.input, row.generated), contrast=_contrast(row))


def _of_row(name: str, value: Any, row: int, n_rows: int) -> Any:
    if not isinstance(value, list) or (name == "contrast_targets_alignments" and _is_of_one(value)):
        return value
    if len(value) != n_rows:
        raise InvalidRequest(f"--attribution-kwargs: {len(value)} {name} for {n_rows} inputs; give one for each")
    return value[row]


def _is_of_one(alignments: Sequence[Any]) -> bool:
    """Whether alignments are pairs, and not a list of pairs for each row."""
    return all(isinstance(item, list) and all(isinstance(at, int) for at in item) for item in alignments)


def _contrast(row: Row) -> Any:
    given = row.contrast
    if not isinstance(given, Mapping):
        several = isinstance(given, list) and all(isinstance(one, str) for one in given)
        return [_behind(row.input, one) for one in given] if several else _behind(row.input, given)
    foil = given.get("foils")
    rest = _behind(row.input, foil)
    # Inseq's are whole sequences: one that begins otherwise is another context
    return {**given, "foils": rest, "whole": rest is foil} if foil is not None else given


def _behind(start: Any, text: Any) -> Any:
    is_whole = isinstance(text, str) and isinstance(start, str) and len(text) > len(start) and text.startswith(start)
    return text[len(start) :] if is_whole else text
