"""Tokens of texts that are longer than a model takes: the service tokenises what could be a prompt, and no more."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from interpd.errors import CallerError, InvalidRequest

Tokenize = Callable[[str, bool], tuple[int, ...]]
"""The tokens of a text; with what the tokenizer puts around texts, or without."""

BOUNDARY = re.compile(r"(?<=\S) (?=\S)|(?<=\S)\s+(?=\S)")
"""Where a text is cut: before white space between words, which then begins the next piece."""
LETTERS = 4
"""So many characters are about a token."""
CHECKED = 3
"""Cuts at which it is made sure that pieces are tokenised as the whole is."""
AROUND = 60
"""Characters on either side of such a cut, at most a quarter of the tokens that a prompt may have."""


def long_text_ids(tokenize: Tokenize, text: str, most: int, *, special: bool) -> tuple[int, ...]:
    """The token ids of a text of any length, as if the tokenizer had taken it at once.

    Args:
        tokenize: Asks for the tokens of a short text; raises ``InvalidRequest`` for a longer one.
        text: The text.
        most: Tokens that a short text has at most; 0: there is no limit.
        special: Whether the tokenizer adds what it puts around texts.

    Raises:
        CallerError: The text cannot be cut, or its pieces are tokenised otherwise than the whole.
    """
    if not most or len(text) <= LETTERS * most:
        try:
            return tokenize(text, special)
        except InvalidRequest:
            if not most:
                raise
    pieces = list(_pieces(tokenize, text, LETTERS * most))
    if len(pieces) > 1:
        _check_cuts(tokenize, [piece for piece, _ in pieces], min(AROUND, most // 4))
    ids = tuple(id_ for _, found in pieces for id_ in found)
    if not special:
        return ids
    before, behind = _around(tokenize, pieces[0][0], min(AROUND, most // 4))
    return before + ids + behind


def _pieces(tokenize: Tokenize, text: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Pieces of a text in order, with their tokens."""
    if len(text) <= size:
        try:
            yield text, tokenize(text, False)
            return
        except InvalidRequest as error:
            at = _cut(text, len(text) // 2)
            if at is None:
                raise error
    else:
        at = _cut(text, size)
        if at is None:
            raise CallerError(f"a text of {len(text)} characters has no white space where it could be cut into windows")
    yield from _pieces(tokenize, text[:at], size)
    yield from _pieces(tokenize, text[at:], size)


def _cut(text: str, near: int) -> int | None:
    """The last place up to ``near`` where the text may be cut, or the first behind it."""
    last = None
    for found in BOUNDARY.finditer(text, 0, min(len(text), near + 1)):
        last = found.start()
    if last is not None:
        return last
    behind = BOUNDARY.search(text, near)
    return None if behind is None else behind.start()


def _check_cuts(tokenize: Tokenize, pieces: list[str], size: int) -> None:
    for left, right in list(pairwise(pieces))[:CHECKED]:
        start = _cut(left, max(0, len(left) - size)) or 0
        end = _cut(right[1:], size)
        one, other = left[start:], right if end is None else right[: end + 1]
        if tokenize(one, False) + tokenize(other, False) != tokenize(one + other, False):
            raise CallerError(
                "this tokenizer reads pieces of a text otherwise than the whole: give documents that fit into the "
                f"model's positions (at {(one + other)!r})"
            )


def _around(tokenize: Tokenize, text: str, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts before and behind a text. Raises ``CallerError``."""
    # short, so that there is room for what is put around it
    end = _cut(text, size)
    short = text[:end] if end else text[:size]
    bare, whole = tokenize(short, False), tokenize(short, True)
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    raise CallerError("the tokenizer reads texts otherwise with its special tokens than without: take special=False")
