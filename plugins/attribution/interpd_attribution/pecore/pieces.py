"""Which tokens of a sequence belong to a part of its text."""

from collections.abc import Sequence
from dataclasses import dataclass

from interpd.graph.run import Tokens


@dataclass(frozen=True)
class Piece:
    """A token, and which characters of the text it stands for."""

    id: int
    text: str
    """As it is shown: with the blank before it, where there is one."""
    start: int
    stop: int
    is_hidden: bool = False
    """A special token that is no part of a text."""


@dataclass(frozen=True)
class Part:
    """Some tokens of a sequence, in order."""

    positions: tuple[int, ...]
    tokens: tuple[str, ...]


def pieces_of(tokens: Tokens, first: int = 0) -> tuple[Piece, ...]:
    """The tokens of a text; their characters are counted from ``first``."""
    found: list[Piece] = []
    before = 0
    for id_, string, (start, stop) in zip(tokens.ids, tokens.strings, tokens.offsets, strict=True):
        is_special = start == stop
        # vocabularies differ in whether a token has the blank before it; bytes of one character share its place
        text = string if is_special or stop <= before or "\ufffd" in string else tokens.text[before:stop]
        found.append(Piece(id_, text, first + start, first + stop, is_hidden=is_special))
        before = max(before, stop)
    return tuple(found)


def positions_in(pieces: Sequence[Piece], text: str, start: int, stop: int) -> tuple[int, ...]:
    """The places of the tokens that have characters from ``start`` to ``stop`` of a text in them, or stand for nothing
    but blanks right before it. A token of no characters counts where it stands: it is the beginning of one."""
    blank_from = len(text[:start].rstrip(" "))
    found = []
    for place, piece in enumerate(pieces):
        if piece.is_hidden:
            continue
        if piece.start == piece.stop:
            is_in = start <= piece.start < stop
        else:
            is_blank = blank_from <= piece.start and piece.stop <= start
            is_in = (piece.start < stop and piece.stop > start) or is_blank
        if is_in and start < stop:
            found.append(place)
    return tuple(found)


def part_of(pieces: Sequence[Piece], text: str, span: tuple[int, int]) -> Part:
    """The tokens of a span of a text."""
    places = positions_in(pieces, text, *span)
    return Part(places, tuple(pieces[place].text for place in places))
