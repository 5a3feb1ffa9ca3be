"""The aggregator ``split``: merges what lies between the matches of a pattern."""

import re
import warnings
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal, get_args

from interpd.errors import CallerError
from interpd_attribution.aggregation.functions import AggregationFunction
from interpd_attribution.aggregation.partition import Span, partition
from interpd_attribution.aggregation.registry import aggregator
from interpd_attribution.aggregation.spans import merged

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution, Token

Mode = Literal["single", "start", "end"]


@aggregator("split")
def split(
    attribution: "Attribution",
    *,
    split_pattern: str,
    aggregate_fn: AggregationFunction | None,
    split_mode: Mode = "single",
    aggregate_source: bool = True,
    aggregate_target: bool = True,
) -> "Attribution":
    """The result with the text between two separators as one token.

    Args:
        attribution: The result.
        split_pattern: A regular expression for the separators, searched in the joined texts of the tokens. A token that
            a match touches belongs to it; one that two matches touch stands by itself.
        aggregate_fn: As for ``spans``.
        split_mode: What becomes of separators: ``single`` keeps each by itself, ``start`` begins a segment with it,
            ``end`` ends one.
        aggregate_source: Whether the source is split.
        aggregate_target: Whether the target is.
    """
    if split_mode not in get_args(Mode):
        raise CallerError(f"split_mode is {split_mode!r}, expected single, start or end")
    pattern = _compiled(split_pattern)
    source = segments(attribution.source, pattern, split_mode) if aggregate_source else []
    target = segments(attribution.target, pattern, split_mode) if aggregate_target else []
    if not (source or target):
        warnings.warn(f"{split_pattern!r} matches nowhere, so no tokens are merged", stacklevel=2)
    return merged(
        attribution,
        partition(len(attribution.source), source, "segments of the source"),
        partition(len(attribution.target), target, "segments of the target"),
        aggregate_fn,
    )


def segments(tokens: "Sequence[Token]", pattern: re.Pattern[str], mode: Mode) -> list[Span]:
    """The segments of ``tokens``; none where the pattern does not match. An empty match separates nothing."""
    lengths = [len(token.text) for token in tokens]
    ends = list(accumulate(lengths))
    text = "".join(token.text for token in tokens)
    touched = [
        _touched(match.start(), match.end(), ends) for match in pattern.finditer(text) if match.end() > match.start()
    ]
    if not touched:
        return []
    bounds = sorted({0, len(tokens), *(position for span in touched for position in span)})
    pieces = list(pairwise(bounds))
    separators = [piece for piece in pieces if any(a <= piece[0] and piece[1] <= b for a, b in touched)]
    if mode == "single":
        return pieces
    side = 0 if mode == "start" else 1
    cuts = sorted({0, len(tokens), *(piece[side] for piece in separators)})
    return list(pairwise(cuts))


def _touched(first: int, last: int, ends: Sequence[int]) -> Span:
    """The tokens that hold the characters ``first`` up to ``last``."""
    start = next(number for number, end in enumerate(ends) if first < end)
    stop = next(number for number, end in enumerate(ends) if last <= end)
    return start, stop + 1


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise CallerError(f"split_pattern {pattern!r} is no regular expression: {error}") from error
