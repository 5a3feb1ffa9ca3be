"""The aggregator ``subwords``: merges the pieces of words."""

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from interpd_attribution.aggregation.functions import AggregationFunction
from interpd_attribution.aggregation.partition import Span, partition
from interpd_attribution.aggregation.registry import aggregator
from interpd_attribution.aggregation.spans import merged

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution, Token

MARKERS: tuple[tuple[tuple[str, ...], bool], ...] = ((("▁",), False), (("Ġ", "Ċ"), False), (("##",), True))
"""What vocabularies mark words with (SentencePiece, byte-level, WordPiece), and whether it marks their later pieces."""

SPECIAL = re.compile(r"<(?!0x)[^<>\s]+>|\[[A-Z]+\]")
"""``<s>``, ``</s>``, ``<|endoftext|>``, ``[CLS]``: no part of a word. ``<0x0A>`` is a byte of one."""


@aggregator("subwords")
def subwords(
    attribution: "Attribution",
    *,
    aggregate_fn: AggregationFunction | None,
    aggregate_source: bool = True,
    aggregate_target: bool = True,
    special_chars: str | tuple[str, ...] | None = None,
    is_suffix_symbol: bool | None = None,
    keep_last: bool = False,
) -> "Attribution":
    """The result with each word as one token.

    Args:
        attribution: The result.
        aggregate_fn: As for ``spans``.
        aggregate_source: Whether words of the source are merged.
        aggregate_target: Whether words of the target are.
        special_chars: What words begin with (``"▁"``, ``("Ġ", "Ċ")``), or with ``is_suffix_symbol`` what their later
            pieces do (``"##"``). ``None``: whichever of these the tokens have. Tokens without any stay as they are,
            with a warning.
        is_suffix_symbol: See there; ``None``: as usual for what was found, else no.
        keep_last: Whether the last token of a sequence stays by itself, as Inseq leaves it, also where it is a part of
            a word and where special tokens are not the last.
    """
    tokens = (*attribution.source, *attribution.target)
    symbols, is_suffix = _marker(tokens, special_chars, is_suffix_symbol)
    source = words(attribution.source, symbols, is_suffix, keep_last=keep_last) if aggregate_source else []
    target = words(attribution.target, symbols, is_suffix, keep_last=keep_last) if aggregate_target else []
    return merged(
        attribution,
        partition(len(attribution.source), source, "words of the source"),
        partition(len(attribution.target), target, "words of the target"),
        aggregate_fn,
    )


def words(tokens: "Sequence[Token]", symbols: tuple[str, ...], is_suffix: bool, *, keep_last: bool) -> list[Span]:
    """Spans of the words that have several tokens."""
    texts = [token.text for token in (tokens[:-1] if keep_last else tokens)]
    if not texts or not any(token.text.startswith(symbols) for token in tokens):
        return []
    starts = [number for number, text in enumerate(texts) if number == 0 or text.startswith(symbols) != is_suffix]
    if not keep_last:
        alone = [number for number, text in enumerate(texts) if SPECIAL.fullmatch(text)]
        starts = sorted({*starts, *alone, *(number + 1 for number in alone if number + 1 < len(texts))})
    return [(start, stop) for start, stop in zip(starts, [*starts[1:], len(texts)], strict=True) if stop - start > 1]


def _marker(
    tokens: "Sequence[Token]", special_chars: str | tuple[str, ...] | None, is_suffix_symbol: bool | None
) -> tuple[tuple[str, ...], bool]:
    def occurs(symbols: tuple[str, ...]) -> bool:
        return any(token.text.startswith(symbols) for token in tokens)

    if special_chars is None:
        found = next((marker for marker in MARKERS if occurs(marker[0])), MARKERS[0])
    else:
        found = ((special_chars,) if isinstance(special_chars, str) else tuple(special_chars), False)
    symbols, is_suffix = found
    if not occurs(symbols):
        warnings.warn(
            f"no token starts with {' or '.join(map(repr, symbols))}, so no words are merged; special_chars names what "
            "words begin with, with is_suffix_symbol=True what their later pieces do",
            stacklevel=2,
        )
    return symbols, is_suffix if is_suffix_symbol is None else is_suffix_symbol
