"""Features, baselines and foils of one sequence, as constants of a method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.asked import Asked
from interpd_attribution.contrast import Foils, contrast_of
from interpd_attribution.features import Baseline, Segments, segments_of
from interpd_attribution.features.baseline import KINDS
from interpd_attribution.sequences import Exact
from interpd_attribution.spelling import Speller


@dataclass(frozen=True)
class Compared:
    """What a sequence is cut into, and what it is compared with."""

    segments: Segments | None = None
    """``None``: each position is a feature."""
    foils: Foils | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)


def compared(speller: Speller, asked: Asked, start: int, stop: int) -> Compared:
    """What was asked for.

    Args:
        speller: Of the sequence.
        asked: The options.
        start: The first attributed position of the target.
        stop: The position behind the last one.

    Raises:
        CallerError: What does not fit the sequence.
    """
    exact, segments, foils = speller.exact, None, None
    constants: dict[str, Any] = {}
    if not isinstance(asked.features, str) or asked.features != "token":
        # of a value there is no attributed token: everything is cut
        end = len(exact.target_ids) if asked.is_value else start
        given = exact.given.messages
        segments = segments_of(asked.features, speller.tokens, start=end, prompt=exact.source, messages=given)
        constants["features"] = segments.of
    constants |= _baseline(speller, asked.baseline, segments)
    if (contrast := contrast_of(asked.contrast)) is not None:
        if asked.is_value:
            raise CallerError("contrast: a value is attributed, and it has no foil; take the difference in the target")
        foils = contrast.resolved(exact.target_ids, start, stop, speller.for_foils)
        constants |= foils.constants
    return Compared(segments, foils, constants)


def _baseline(speller: Speller, baseline: Any, segments: Segments | None) -> Mapping[str, Any]:
    if baseline is None:
        return {}
    if isinstance(baseline, str):
        return {"baseline": baseline}
    if isinstance(baseline, Baseline):
        spell = speller.source if baseline.replaced is None else speller.piece
        return baseline.constants(speller.tokens, spell, start=speller.exact.first, segments=segments)
    given = baseline.tolist() if isinstance(baseline, np.ndarray) else baseline
    if not isinstance(given, Sequence) or not all(isinstance(id_, int | np.integer) for id_ in given):
        raise CallerError(f"baseline is {baseline!r}, expected one of {', '.join(KINDS)}, token ids or a Baseline")
    ids = tuple(int(id_) for id_ in given)
    return {"baseline": "ids", "baseline_ids": completed(speller.exact, ids)}


def completed(exact: Exact, ids: tuple[int, ...]) -> tuple[int, ...]:
    """Baseline ids for all positions: what is not given stays as it is. Raises ``CallerError`` for another count."""
    n_given, n_source = len(ids), len(exact.source.ids)
    if n_given in (1, exact.n_positions):
        return ids
    if n_given == n_source:
        return ids + (exact.target_ids if exact.has_encoder else exact.target_ids[n_source:])
    raise CallerError(
        f"baseline has {n_given} token ids, expected 1, {n_source} (those of the prompt or source) or "
        f"{exact.n_positions} (all positions)"
    )
