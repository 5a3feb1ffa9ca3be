"""Positions of a prompt's tokens by text: where a word, span or range of characters lies.

Pure functions of ``Tokens``; the client uses them for ``t.tokens("Marsh")``.
"""

from collections.abc import Sequence

from interpd.errors import PositionOutOfRange
from interpd.graph.run import Tokens


def of_characters(tokens: Tokens, start: int, stop: int) -> tuple[int, ...]:
    """Positions of the tokens that cover the characters ``start <= i < stop`` of ``tokens.text``, in order.

    Raises ``PositionOutOfRange`` for an empty range, one outside the text, and for prompts given as ids.
    """
    if not 0 <= start < stop <= len(tokens.text):
        raise PositionOutOfRange(f"characters {start}..{stop} do not lie in a text of {len(tokens.text)}")
    found = tuple(i for i, (first, end) in enumerate(tokens.offsets) if first < stop and end > start)
    if not found:
        why = (
            "the prompt was given as token ids" if not any(end for _, end in tokens.offsets) else "no token covers them"
        )
        raise PositionOutOfRange(f"characters {start}..{stop} have no positions: {why}; {_listing(tokens)}")
    return found


def of_text(tokens: Tokens, text: str, occurrence: int | None = None) -> tuple[int, ...]:
    """Positions of the tokens that cover ``text`` in the prompt.

    ``occurrence``: which one when there are several (0 the first, -1 the last). Without it ``text`` must occur
    once. A token that is only partly covered counts. Raises ``PositionOutOfRange``, with the prompt's tokens.
    """
    starts = _occurrences(tokens.text, text)
    if not starts:
        raise PositionOutOfRange(f"the prompt does not contain {text!r}; {_listing(tokens)}")
    if occurrence is None and len(starts) > 1:
        what = f"the prompt contains {text!r} {len(starts)} times"
        raise PositionOutOfRange(f"{what}: say which, occurrence=0 is the first and -1 the last; {_listing(tokens)}")
    number = occurrence or 0
    if not -len(starts) <= number < len(starts):
        raise PositionOutOfRange(f"the prompt contains {text!r} {len(starts)} times, there is no occurrence {number}")
    return of_characters(tokens, starts[number], starts[number] + len(text))


def first(tokens: Tokens, text: str) -> tuple[int, ...]:
    """Positions of the first occurrence of ``text``."""
    return of_text(tokens, text, 0)


def last(tokens: Tokens, text: str) -> tuple[int, ...]:
    """Positions of the last occurrence of ``text``."""
    return of_text(tokens, text, -1)


def every(tokens: Tokens, text: str) -> tuple[tuple[int, ...], ...]:
    """Positions of each occurrence of ``text``, in order; empty when there is none."""
    return tuple(of_characters(tokens, start, start + len(text)) for start in _occurrences(tokens.text, text))


def _occurrences(whole: str, part: str) -> list[int]:
    """Where ``part`` begins in ``whole``, without overlaps."""
    starts: list[int] = []
    at = whole.find(part) if part else -1
    while at >= 0:
        starts.append(at)
        at = whole.find(part, at + len(part))
    return starts


def _listing(tokens: Tokens, most: int = 40) -> str:
    shown: Sequence[str] = [f"{i}:{text!r}" for i, text in enumerate(tokens.strings[:most])]
    more = f" and {len(tokens.strings) - most} more" if len(tokens.strings) > most else ""
    return f"its tokens are {' '.join(shown)}{more}"
