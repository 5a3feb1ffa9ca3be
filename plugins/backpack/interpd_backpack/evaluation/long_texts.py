"""Tokens of texts that are longer than a model takes: the service tokenises what could be a prompt, and no more.

Pieces that overlap are tokenised, and put together where both say the same tokens at the same places: what a tokenizer
makes of a place depends on what is near it. So nothing has to be known of the tokenizer, nor of white space.
"""

from collections.abc import Callable

from interpd.errors import CallerError, InvalidRequest
from interpd.graph.run import Tokens

Tokenize = Callable[[str, bool], Tokens]
"""The tokens of a text; with what the tokenizer puts around texts, or without."""

LETTERS = 4
"""So many characters are about a token."""
OVERLAP = 2
"""Pieces share this part of their characters: one half, so that it is many tokens also where a model takes few."""
AGREEING = 3
"""Tokens in a row that both pieces must have where they are put together."""
SHORTEST = 8
"""Characters of a piece below which no smaller one is tried."""

Placed = tuple[int, int, int]
"""A token, and where it begins and ends in the text."""


def long_text_ids(tokenize: Tokenize, text: str, most: int, *, special: bool) -> tuple[int, ...]:
    """The token ids of a text of any length, as if the tokenizer had taken it at once.

    Args:
        tokenize: Asks for the tokens of a short text; raises ``InvalidRequest`` for a longer one.
        text: The text.
        most: Tokens that a short text has at most; 0: there is no limit.
        special: Whether the tokenizer adds what it puts around texts.

    Raises:
        CallerError: Pieces of the text are tokenised in so many ways that they cannot be put together.
    """
    if not most or len(text) <= LETTERS * most:
        try:
            return tokenize(text, special).ids
        except InvalidRequest:
            if not most:
                raise
    ids = tuple(id_ for id_, _, _ in _stitched(tokenize, text, LETTERS * most))
    if not special:
        return ids
    before, behind = _around(tokenize, text[: most // LETTERS])
    return before + ids + behind


def _stitched(tokenize: Tokenize, text: str, size: int) -> list[Placed]:
    kept: list[Placed] = []
    start = 0
    while True:
        found, size = _piece(tokenize, text, start, size)
        _join(kept, found)
        if start + size >= len(text):
            return kept
        start += size - size // OVERLAP


def _piece(tokenize: Tokenize, text: str, start: int, size: int) -> tuple[list[Placed], int]:
    """The tokens from ``start`` on, and of how many characters they are: fewer where these were too many tokens."""
    while True:
        try:
            found = tokenize(text[start : start + size], False)
        except InvalidRequest:
            if size <= SHORTEST:
                raise
            size //= 2
            continue
        places = zip(found.ids, found.offsets, strict=True)
        return [(id_, start + first, start + end) for id_, (first, end) in places], size


def _join(left: list[Placed], right: list[Placed]) -> None:
    """Puts the next piece to those before it, in the middle of what they share. Raises ``CallerError``."""
    if not left:
        left += right
        return
    place_of = {tuple(right[at : at + AGREEING]): at for at in range(len(right) - AGREEING + 1)}
    first = right[0][1] if right else 0
    tail = len(left)
    while tail and left[tail - 1][1] >= first:
        tail -= 1
    shared = [at for at in range(tail, len(left) - AGREEING + 1) if tuple(left[at : at + AGREEING]) in place_of]
    if not shared:
        raise CallerError(
            f"this tokenizer reads pieces of a text otherwise than the whole, near character {first}: give documents "
            "that fit into the model's positions"
        )
    at = shared[len(shared) // 2]
    # in place: the text may be long
    left[at:] = right[place_of[tuple(left[at : at + AGREEING])] :]


def _around(tokenize: Tokenize, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts before and behind a text. Raises ``CallerError``."""
    bare, whole = tokenize(text, False).ids, tokenize(text, True).ids
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    raise CallerError("the tokenizer reads texts otherwise with its special tokens than without: take special=False")
