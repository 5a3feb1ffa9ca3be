"""Baselines as constants of methods: names, token ids and texts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.sequences import Exact


def baseline_constants(exact: Exact, baseline: Any) -> Mapping[str, Any]:
    """What a baseline is for the method; nothing where the method's own default is meant.

    Raises ``CallerError`` for ids that are not one, nor one for each position of the prompt (or source) or of all.
    """
    if baseline is None:
        return {}
    if isinstance(baseline, str):
        return {"baseline": baseline}
    if isinstance(baseline, Mapping):
        return dict(baseline)
    ids = tuple(int(id_) for id_ in (baseline.tolist() if isinstance(baseline, np.ndarray) else baseline))
    return {"baseline": "ids", "baseline_ids": completed(exact, ids)}


def completed(exact: Exact, ids: tuple[int, ...]) -> tuple[int, ...]:
    """Baseline ids for all positions: what is not given stays as it is."""
    n_given, n_source = len(ids), len(exact.source.ids)
    rest = exact.target_ids if exact.has_encoder else exact.target_ids[n_source:]
    if n_given in (1, exact.n_positions):
        return ids
    if n_given == n_source:
        return ids + rest
    raise CallerError(
        f"baseline has {n_given} token ids, expected 1, {n_source} (those of the prompt or source) or "
        f"{exact.n_positions} (all positions)"
    )
