"""Words as the tokens of a model, by an explicit policy for those that are several.

The published code takes the first piece of a word in silence; here a word of several tokens is refused until somebody
says what shall be done with its pieces, and every result says which tokens it is about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd_client import Model

Pieces = Literal["refuse", "first", "last", "each", "mean", "sum"]
"""What is done with a word of several tokens.

``refuse``: nothing. ``first``, ``last``: that token is taken for the word. ``each``: all of its tokens, one by one.
``mean``, ``sum``: the mean or sum of its tokens' senses (Hewitt et al. 2023 compare words by the mean).
"""

SPELT_AT_ONCE = 256
"""Ids in one question for their strings."""


@dataclass(frozen=True)
class Word:
    """A word and the tokens that stand for it."""

    text: str
    """As it was given, without the space before it."""
    ids: tuple[int, ...]
    """The tokens that are taken; several for ``each``, ``mean`` and ``sum`` only."""
    pieces: Pieces
    """The policy that chose them; ``refuse`` where there is only one."""


def word(model: Model, text: str | int, pieces: Pieces = "refuse") -> Word:
    """The tokens of a word.

    Args:
        model: Whose tokenizer decides.
        text: Tokenised with a space before it, as in the middle of a sentence, unless it begins with one or with
            ``=`` (``"=The"``: the very text, for beginnings of sentences, special tokens and pieces). An ``int`` is a
            token id.
        pieces: What is done with several tokens.

    Raises:
        CallerError: No such policy, an empty word, or several tokens and ``refuse``.
    """
    if pieces not in get_args(Pieces):
        raise CallerError(f"pieces is {pieces!r}, expected one of {', '.join(get_args(Pieces))}")
    if isinstance(text, int):
        return Word(spelt(model, [text])[0].strip(), (text,), "refuse")
    exact = text.removeprefix("=") if text.startswith("=") and len(text) > 1 else f" {text.strip()}"
    if not exact.strip():
        raise CallerError(f"the word {text!r} is empty")
    ids = model.tokenize(Prompt(text=exact, add_special_tokens=False)).ids
    if len(ids) == 1:
        return Word(exact.strip(), ids, "refuse")
    if pieces == "refuse":
        strings = ", ".join(map(repr, spelt(model, ids)))
        raise CallerError(
            f"the word {exact!r} is {len(ids)} tokens ({strings}); say what to do with them: pieces='first', 'last', "
            "'each', 'mean' or 'sum', or take one of these tokens"
        )
    kept = {"first": ids[:1], "last": ids[-1:]}.get(pieces, ids)
    return Word(exact.strip(), kept, pieces)


def spelt(model: Model, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of each token id, its space included."""
    # a question is a prompt, and no longer than the model takes
    size = min(SPELT_AT_ONCE, model.info.max_positions or SPELT_AT_ONCE)
    chunks = [tuple(ids[at : at + size]) for at in range(0, len(ids), size)]
    return tuple(string for chunk in chunks for string in model.tokenize(Prompt(token_ids=chunk)).strings)


def laid_out(text: str, strings: Sequence[str]) -> tuple[str, ...]:
    """The part of a text that each of its tokens makes, spaces included, which tokens by themselves may lack.

    A token that the text does not have at its place (a special one, half a character) is as it is by itself.
    """
    parts, at = [], 0
    for string in strings:
        core = string.strip() or string
        start = text.find(core, at)
        if core and start >= 0 and not text[at:start].strip():
            parts.append(text[at : start + len(core)])
            at = start + len(core)
        else:
            parts.append(string)
    return tuple(parts)
