"""Tokens as they are shown: the text of each, with a mark where a word begins."""

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution.features.covering import offsets

SPACE = "\u2581"
"""Stands for the space before a word, whatever the vocabulary has there (``\u2581``, ``\u0120``, a space)."""


def labels(tokens: Tokens) -> tuple[str, ...]:
    """The string of each token of one side, with the space before it, if there is one, as ``SPACE``.

    SentencePiece decodes a token without the space that it brings; it is in the text of all.
    """
    try:
        places = offsets(tokens)
    except CallerError:
        # tokens that decode to other characters together than alone: what they are alone is all there is
        return tuple(map(marked, tokens.strings))
    pieces = [tokens.text[start:stop] for start, stop in places]
    # a part of a character has the text of the whole
    pairs = zip(tokens.strings, pieces, strict=True)
    return tuple(marked(piece if piece.strip() == string.strip() and piece else string) for string, piece in pairs)


def marked(string: str) -> str:
    """A token's text with ``SPACE`` for the space before it."""
    return SPACE + string[1:] if string.startswith(" ") else string
