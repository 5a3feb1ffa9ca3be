"""The aggregator ``scores``: reduces the last of the axes beside the tokens, and scales what is left."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.aggregation.functions import AggregationFunction, function_for_dim
from interpd_attribution.aggregation.registry import aggregator
from interpd_attribution.numbers import COLUMN, LARGEST, over, with_done

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

Selection = int | tuple[int, int] | slice | Sequence[int] | None

SMALLEST_SUM = 1e-12
"""Columns whose magnitudes sum to less are divided by this, so that zeros stay zeros."""


@aggregator("scores", default=lambda attribution: function_for_dim(attribution.dims[-1]) if attribution.dims else None)
def scores(
    attribution: "Attribution",
    *,
    aggregate_fn: AggregationFunction | None,
    select_idx: Selection = None,
    normalize: bool | None = None,
    rescale: bool = False,
) -> "Attribution":
    """The result without its last axis (layers, heads, dimensions).

    Args:
        attribution: The result. One with no such axis left may still be scaled.
        aggregate_fn: The function over that axis.
        select_idx: A part of the axis: a number picks one entry (and no function is applied), a pair ``(a, b)`` is the
            span from ``a`` up to ``b``, a list names entries. Negative numbers count from the end.
        normalize: Whether the magnitudes of each column sum to 1, those of source and target inputs together. The
            default is yes, unless ``rescale``.
        rescale: Whether scores are divided by the largest magnitude of the whole result instead.
    """
    if normalize and rescale:
        raise CallerError("normalize and rescale exclude each other; choose one")
    if not attribution.dims and (aggregate_fn is not None or select_idx is not None or not (normalize or rescale)):
        raise CallerError("nothing is left to aggregate but the tokens; normalize or rescale scale the scores")
    if attribution.dims:
        picked = int(select_idx) if isinstance(select_idx, np.integer) else select_idx
        attribution = _without_last(attribution, aggregate_fn, picked)
    if rescale:
        return _scaled(attribution, _largest, LARGEST)
    return _scaled(attribution, _sums, COLUMN) if normalize is not False else attribution


def _without_last(
    attribution: "Attribution", function: AggregationFunction | None, select_idx: Selection
) -> "Attribution":
    def reduced(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        chosen = selected(array, select_idx, attribution.dims[-1])
        return chosen if isinstance(select_idx, int) or function is None else function(_told(chosen), -1)

    dim = attribution.dims[-1]
    what = f"{dim} {select_idx}" if isinstance(select_idx, int) or function is None else over(function.name, dim)
    return replace(
        attribution,
        info=with_done(attribution, what),
        dims=attribution.dims[:-1],
        source_attributions=reduced(attribution.source_attributions),
        target_attributions=reduced(attribution.target_attributions),
        sequence_scores={name: reduced(array) for name, array in attribution.sequence_scores.items()},
    )


def _told(array: np.ndarray) -> np.ndarray:
    """The entries of the last axis that say anything; layers of an encoder say nothing of a decoder's tokens."""
    is_told = ~np.isnan(array).all(axis=tuple(range(array.ndim - 1)))
    return array[..., is_told] if is_told.any() and not is_told.all() else array


def selected(array: np.ndarray, select_idx: Selection, dim: str) -> np.ndarray:
    """A part of the last axis of ``array``; that axis is gone where ``select_idx`` is a number."""
    size = array.shape[-1]
    if select_idx is None:
        return array
    if isinstance(select_idx, bool) or not isinstance(select_idx, int | tuple | list | slice | np.ndarray | range):
        raise CallerError(
            f"select_idx is {select_idx!r}, expected a number, a pair (start, stop), or a list of numbers"
        )
    if isinstance(select_idx, int):
        return array[..., _index(select_idx, size, dim)]
    if isinstance(select_idx, slice):
        start, stop, step = select_idx.indices(size)
        numbers = list(range(start, stop, step))
    elif isinstance(select_idx, tuple):
        numbers = _span(select_idx, size, dim)
    else:
        numbers = [_index(int(number), size, dim) for number in select_idx]
    if not numbers or len(set(numbers)) < len(numbers):
        raise CallerError(f"select_idx is {select_idx!r}: it must name at least one {dim}, and each of them once")
    return array[..., numbers]


def _span(pair: tuple[int, ...], size: int, dim: str) -> list[int]:
    if len(pair) != 2:
        raise CallerError(f"select_idx is {pair!r}, but a span is a pair (start, stop); single entries are a list")
    start, stop = (number if number >= 0 else size + number for number in pair)
    if not 0 <= start < stop <= size:
        raise CallerError(f"select_idx is {pair!r}, but {dim} has entries 0 to {size - 1} and a span must hold one")
    return list(range(start, stop))


def _index(number: int, size: int, dim: str) -> int:
    if not -size <= number < size:
        raise CallerError(f"select_idx names {number}, but {dim} has entries 0 to {size - 1}")
    return number % size


def _scaled(attribution: "Attribution", divisor: Callable[[np.ndarray], np.ndarray], what: str) -> "Attribution":
    """Source and target together, divided by what ``divisor`` finds in their magnitudes; NaN counts as zero."""
    if not attribution.has_scores:
        return attribution
    by = divisor(np.abs(np.nan_to_num(attribution.scores, posinf=np.inf, neginf=-np.inf)))
    parts = {name: getattr(attribution, name) for name in ("source_attributions", "target_attributions")}
    scaled = {name: None if part is None else part / by for name, part in parts.items()}
    return replace(attribution, info=with_done(attribution, what), **scaled)


def _sums(magnitudes: np.ndarray) -> np.ndarray:
    return np.maximum(magnitudes.sum(0, dtype=np.float64), SMALLEST_SUM).astype(np.float32)


def _largest(magnitudes: np.ndarray) -> np.ndarray:
    return magnitudes.max(initial=0.0) or np.float32(1.0)
