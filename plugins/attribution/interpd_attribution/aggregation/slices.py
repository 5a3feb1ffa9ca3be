"""The aggregator ``slices``: keeps some inputs only."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.aggregation.partition import Spans, listed, partition
from interpd_attribution.aggregation.registry import aggregator
from interpd_attribution.aggregation.spans import refuse_source_spans

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution


@aggregator("slices")
def slices(attribution: "Attribution", *, source_spans: Spans = None, target_spans: Spans = None) -> "Attribution":
    """The result with only some of its inputs. What was generated is always kept, as columns and as inputs.

    Args:
        attribution: The result.
        source_spans: What stays of the source, ``(start, stop)`` or several in order; everything where it is left out.
        target_spans: What stays of the target before its attributed tokens; nothing where it is left out, except for
            decoder-only models where both are.
    """
    refuse_source_spans(attribution, source_spans)
    if source_spans is None and target_spans is None:
        raise CallerError("source_spans and target_spans are both missing; one of them says what stays")
    start, end = attribution.attr_pos_start, attribution.attr_pos_end
    source = _kept(len(attribution.source), source_spans, "source_spans")
    before = _before(start, len(attribution.target), target_spans)
    target = np.concatenate((before, np.arange(start, end)))
    if attribution.source_attributions is None and attribution.source == attribution.target[: len(attribution.source)]:
        source = before[before < len(attribution.source)]

    def along(name: str, array: np.ndarray) -> np.ndarray:
        if name.startswith("encoder"):
            return array[source][:, source]
        if name.startswith("decoder"):
            whole = len(attribution.target)
            rows, columns = (target if size == whole else np.arange(size) for size in array.shape[:2])
            return array[rows][:, columns]
        return array[source]

    def of(array: np.ndarray | None, kept: np.ndarray) -> np.ndarray | None:
        return None if array is None else array[kept]

    return replace(
        attribution,
        source=tuple(attribution.source[number] for number in source),
        target=tuple(attribution.target[number] for number in target),
        source_attributions=of(attribution.source_attributions, source),
        target_attributions=of(attribution.target_attributions, target),
        sequence_scores={name: along(name, array) for name, array in attribution.sequence_scores.items()},
        attr_pos_start=len(before),
        attr_pos_end=len(target),
    )


def _kept(n_tokens: int, spans: Spans, what: str) -> np.ndarray:
    if spans is None:
        return np.arange(n_tokens)
    partition(n_tokens, spans, what)
    return np.concatenate([np.arange(a, b) for a, b in listed(spans, what)] or [np.arange(0)])


def _before(start: int, n_target: int, spans: Spans) -> np.ndarray:
    """Positions before the attributed tokens that stay."""
    kept = _kept(n_target, spans if spans is not None else (), "target_spans")
    return kept[kept < start].astype(int)
