"""A result as nested dicts, for data frames."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution, Token

Key = tuple[int, str]
Scores = dict[Key, dict[Key | str, float]]


def scores_dict(attribution: "Attribution") -> dict[str, Scores]:
    """``source_attributions`` and ``target_attributions`` by generated and then by input token, ``step_scores`` by
    generated token and then by name. A token is a pair of its position and its text."""
    if attribution.dims:
        raise CallerError(f"the axes {', '.join(attribution.dims)} are left; aggregate them first")
    start, end = attribution.attr_pos_start, attribution.attr_pos_end
    columns = [(start + number, token.text) for number, token in enumerate(attribution.generated)]
    found: dict[str, Scores] = {"source_attributions": {}, "target_attributions": {}, "step_scores": {}}
    if attribution.source_attributions is not None:
        found["source_attributions"] = _by_pair(columns, attribution.source, attribution.source_attributions)
    if attribution.target_attributions is not None:
        rows = attribution.target[:end]
        found["target_attributions"] = _by_pair(columns, rows, attribution.target_attributions[:end])
    found["step_scores"] = {
        column: {name: float(values[number]) for name, values in attribution.step_scores.items()}
        for number, column in enumerate(columns)
    }
    return found


def _by_pair(columns: list[Key], tokens: "Iterable[Token]", scores: np.ndarray) -> Scores:
    rows = [(number, token.text) for number, token in enumerate(tokens)]
    return {column: dict(zip(rows, scores[:, number].tolist(), strict=True)) for number, column in enumerate(columns)}
