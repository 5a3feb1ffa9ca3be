"""Where a text is cut: functions from a text to its parts. They need no model and download nothing."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from interpd.errors import CallerError
from interpd_attribution.features.covering import Part

_ALONE = r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
"""Letters of scripts that put no space between words: each stands alone."""

_WORD = re.compile(rf"{_ALONE}|(?:(?!{_ALONE})\w)+(?:['’\-](?:(?!{_ALONE})\w)+)*|[^\w\s]+")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[」』”]*|\n\s*\n")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|No|Fig|Eq|cf|e\.g|i\.e)|\b[A-Z])\.$")
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")


def words(text: str) -> list[Part]:
    """Words (with the apostrophes and hyphens within them), and runs of punctuation."""
    return _all_of(text, [found.span() for found in _WORD.finditer(text)])


def sentences(text: str) -> list[Part]:
    """Sentences: they end with a mark and white space, or with an empty line; not behind the usual abbreviations and
    initials, and not where a small letter follows."""
    ends = [found.end() for found in _SENTENCE_END.finditer(text) if _ends_sentence(text, found.end())]
    return _between(text, ends)


def paragraphs(text: str) -> list[Part]:
    """What lies between empty lines."""
    return _between(text, [found.end() for found in _PARAGRAPH_END.finditer(text)])


def lines(text: str) -> list[Part]:
    """Lines that are not empty."""
    return _between(text, [found.end() for found in re.finditer("\n", text)])


def matches(text: str, pattern: str, keep: Literal["matches", "between"]) -> list[Part]:
    """The matches of a regular expression, or what lies between them. Raises ``CallerError`` where there is none."""
    try:
        found = [one.span() for one in re.finditer(pattern, text) if one.end() > one.start()]
    except re.error as error:
        raise CallerError(f"{pattern!r} is no regular expression: {error}") from error
    if not found:
        raise CallerError(f"pattern {pattern!r} matches nothing in the prompt {_short(text)!r}")
    if keep == "matches":
        return [Part(start, stop) for start, stop in found]
    edges = [0, *(edge for span in found for edge in span), len(text)]
    return [Part(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if text[start:stop].strip()]


def quotations(text: str, pieces: Sequence[str], labels: Sequence[str | None]) -> list[Part]:
    """Where pieces of a text stand in it, one behind the other. Raises ``CallerError`` for one that is not there."""
    parts, at = [], 0
    for piece, label in zip(pieces, labels, strict=True):
        wanted = piece.strip()
        start = text.find(wanted, at)
        if start < 0 or not wanted:
            said = "is empty" if not wanted else "is not in the prompt behind the one before it"
            raise CallerError(f"{_short(piece)!r} {said}; the prompt holds each of them, in order and unchanged")
        at = start + len(wanted)
        parts.append(Part(start, at, label))
    return parts


def _ends_sentence(text: str, end: int) -> bool:
    rest = text[end:].lstrip()
    return not (rest[:1].islower() or _ABBREVIATION.search(text[:end]))


def _between(text: str, ends: Iterable[int]) -> list[Part]:
    return _all_of(text, pairwise(sorted({0, *ends, len(text)})))


def _all_of(text: str, spans: Iterable[tuple[int, int]]) -> list[Part]:
    """Parts that leave nothing out: white space before a part is its own, at the end it is that of the last one."""
    parts: list[Part] = []
    for start, stop in spans:
        if text[start:stop].strip():
            parts.append(Part(parts[-1].stop if parts else 0, stop))
    if parts:
        parts[-1] = parts[-1]._replace(stop=len(text))
    return parts


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
