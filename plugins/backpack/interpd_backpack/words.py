"""Words as the tokens of a model, by an explicit policy for those that are several.

The published code takes the first piece of a word in silence; here a word of several tokens is refused until somebody
says what shall be done with its pieces, and every result says which tokens it is about. A word that the vocabulary has
no token for is refused, too: what the tokenizer makes of it stands for every other such word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd_client import Model

Pieces = Literal["refuse", "first", "last", "each", "mean", "sum"]
"""What is done with a word of several tokens.

``refuse``: nothing. ``first``, ``last``: that token is taken for the word. ``each``: all of its tokens, one by one.
``mean``, ``sum``: the mean or sum of its tokens' senses (Hewitt et al. 2023 compare words by the mean).
"""

SPELT_AT_ONCE = 256
"""Ids in one question for their strings."""
VOCABULARY_READ = 1 << 15
"""Tokens of a vocabulary in which near words are looked for; vocabularies of whole words are no larger."""
N_NEAR = 3

_unknown: WeakKeyDictionary[Model, int | None] = WeakKeyDictionary()
_vocabularies: WeakKeyDictionary[Model, tuple[str, ...]] = WeakKeyDictionary()


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
        CallerError: No such policy, an empty word, one that the vocabulary has no token for, or several tokens and
            ``refuse``.
    """
    if pieces not in get_args(Pieces):
        raise CallerError(f"pieces is {pieces!r}, expected one of {', '.join(get_args(Pieces))}")
    text = checked(text)
    if isinstance(text, int):
        return Word(spelt(model, [text])[0].strip(), (text,), "refuse")
    exact = text.removeprefix("=") if text.startswith("=") and len(text) > 1 else f" {text.strip()}"
    if not exact.strip():
        raise CallerError(f"the word {text!r} is empty")
    tokens = model.tokenize(Prompt(text=exact, add_special_tokens=False))
    ids = tokens.ids
    # the unknown token spells no text but its own, so that what is spelt is known
    if "".join(tokens.strings).strip() != exact.strip():
        _refuse_unknown(model, tokens)
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


def checked(given: object) -> str | int:
    """A text or a token id. Raises ``CallerError`` for what is neither."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise CallerError(f"a word is a text or a token id, got {given!r}")
    if given < 0:
        raise CallerError(f"a token id is a number from 0, got {given}")
    return int(given)


def spelt(model: Model, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of each token id, its space included."""
    # a question is a prompt, and no longer than the model takes
    size = min(SPELT_AT_ONCE, model.info.max_positions or SPELT_AT_ONCE)
    chunks = [tuple(ids[at : at + size]) for at in range(0, len(ids), size)]
    return tuple(string for chunk in chunks for string in model.tokenize(Prompt(token_ids=chunk)).strings)


def unknown_token(model: Model) -> int | None:
    """The id that stands for what the vocabulary cannot express; ``None`` where there is none. Asked once a model."""
    if model not in _unknown:
        t = model.trace([0], progress=False)
        t.save(found=t.op("backpack.unknown_token"))
        found = int(t.run()["found"])
        _unknown[model] = None if found < 0 else found
    return _unknown[model]


def _refuse_unknown(model: Model, tokens: Tokens) -> None:
    unknown, whole = unknown_token(model), tokens.text.strip()
    if unknown is None or unknown not in tokens.ids:
        return
    name = spelt(model, [unknown])[0].strip()
    if whole == name:
        return
    start, end = tokens.offsets[tokens.ids.index(unknown)]
    text = tokens.text[start:end].strip() or whole
    near = get_close_matches(text, _vocabulary(model), N_NEAR)
    said = repr(text) if text == whole else f"{text!r} in {whole!r}"
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise CallerError(
        f"the vocabulary of {model.name!r} has no token for {said}.{hint} If all unknown words are meant, which are "
        f"one token to this model: '={name}', or its id {unknown}"
    )


def _vocabulary(model: Model) -> tuple[str, ...]:
    """The tokens of a vocabulary that is not too large, without spaces; of a larger one none."""
    n = model.info.sizes.get("d_vocab", 0)
    if model not in _vocabularies:
        strings = spelt(model, range(n)) if n <= VOCABULARY_READ else ()
        _vocabularies[model] = tuple(dict.fromkeys(string.strip() for string in strings if string.strip()))
    return _vocabularies[model]


def shown_prompt(tokens: Tokens) -> tuple[str, ...]:
    """The part of a prompt that each of its tokens makes, spaces included; what is unknown is the unknown token's name.

    Special tokens are as they are by themselves.
    """
    if not any(end for _, end in tokens.offsets):
        # token ids were given, and the text was made of them
        return laid_out(tokens.text, tokens.strings)
    parts, at = [], 0
    for string, (_, end) in zip(tokens.strings, tokens.offsets, strict=True):
        if end <= at:
            parts.append(string)
            continue
        own, at = tokens.text[at:end], end
        is_spelt = own.strip() == string.strip()
        parts.append(own if is_spelt else own[: len(own) - len(own.lstrip())] + string.strip())
    return tuple(parts)


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
