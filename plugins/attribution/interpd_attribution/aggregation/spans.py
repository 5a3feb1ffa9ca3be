"""The aggregator ``spans``: merges neighbouring tokens, as inputs and as what was generated."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.aggregation.functions import SPAN_DEFAULT, AggregationFunction, function_for_step_score
from interpd_attribution.aggregation.partition import Partition, Spans, partition
from interpd_attribution.aggregation.registry import aggregator, find_function

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution


@aggregator("spans")
def spans(
    attribution: "Attribution",
    *,
    aggregate_fn: AggregationFunction | None,
    source_spans: Spans = None,
    target_spans: Spans = None,
) -> "Attribution":
    """The result with each span of tokens as one token.

    First generated tokens are merged, then inputs. Where a span holds tokens before and after the first attributed one,
    the merged token counts as generated, and its column comes from the attributed tokens only.

    Args:
        attribution: The result.
        aggregate_fn: For every score. By default the largest magnitude with its sign; each step score by its own
            function (probabilities multiply, entropies add up, ...).
        source_spans: ``(start, stop)`` or several, in order.
        target_spans: The same for the target, counted from its first token. Of a decoder-only model these are the
            prompt's, too.
    """
    refuse_source_spans(attribution, source_spans)
    return merged(
        attribution,
        partition(len(attribution.source), source_spans, "source_spans"),
        partition(len(attribution.target), target_spans, "target_spans"),
        aggregate_fn,
    )


def refuse_source_spans(attribution: "Attribution", source_spans: Spans) -> None:
    """Raises where spans of a source are given that would have no effect."""
    if source_spans and attribution.source_attributions is None and attribution.has_scores:
        raise CallerError("the model has no source: its prompt begins the target; give target_spans")


def merged(
    attribution: "Attribution", source: Partition, target: Partition, function: AggregationFunction | None
) -> "Attribution":
    """``attribution`` with the groups of both partitions as its tokens."""
    start, end = attribution.attr_pos_start, attribution.attr_pos_end
    generated = target.within(start, end)
    usual = function or find_function(SPAN_DEFAULT)
    if attribution.source_attributions is None and attribution.source == attribution.target[: len(attribution.source)]:
        source = target.within(0, len(attribution.source))

    def over(array: np.ndarray | None, rows: Partition, columns: Partition) -> np.ndarray | None:
        return None if array is None else rows.merge(columns.merge(array, 1, usual), 0, usual)

    def over_sequence(name: str, array: np.ndarray) -> np.ndarray | None:
        if name.startswith("encoder"):
            return over(array, source, source)
        if name.startswith("decoder"):
            return over(array, *(target if size == len(attribution.target) else generated for size in array.shape[:2]))
        return over(array, source, generated)

    def over_steps(name: str, values: np.ndarray) -> np.ndarray:
        return generated.merge(values, 0, function or find_function(function_for_step_score(name, attribution.info)))

    first = target.group_of(start)
    return replace(
        attribution,
        source=source.merge_tokens(attribution.source),
        target=target.merge_tokens(attribution.target),
        source_attributions=over(attribution.source_attributions, source, generated),
        target_attributions=over(attribution.target_attributions, target, generated),
        step_scores={name: over_steps(name, values) for name, values in attribution.step_scores.items()},
        sequence_scores={name: over_sequence(name, array) for name, array in attribution.sequence_scores.items()},
        attr_pos_start=first,
        attr_pos_end=first + len(generated.groups),
    )
