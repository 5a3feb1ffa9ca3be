"""Where an operation acts: tokens, senses, positions, vectors; and what of them is refused."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from interpd.errors import CallerError

ALL: Literal["all"] = "all"
"""Every token, or every sense."""


@dataclass(frozen=True, slots=True, order=True)
class Token:
    """A token of the vocabulary. Two are equal when their ids are."""

    id: int
    text: str = field(default="", compare=False)
    """What it spells, for people."""

    def __post_init__(self) -> None:
        if not _is_count(self.id):
            raise CallerError(f"the id of a token is a number from 0, got {self.id!r}")
        object.__setattr__(self, "id", int(self.id))

    def __str__(self) -> str:
        return f"{self.text!r} ({self.id})" if self.text else f"token {self.id}"


TokenOrWord: TypeAlias = Token | str
"""Words are as in ``words.word``; ``Edit`` takes tokens only, ``model.backpack.edit`` finds them."""
Tokens: TypeAlias = tuple[TokenOrWord, ...] | Literal["all"]
Senses: TypeAlias = tuple[int, ...] | Literal["all"]


def a_token(value: Any, what: str) -> TokenOrWord:
    """A token, also from a bare id, or a word that is still to be found. Raises ``CallerError``."""
    if isinstance(value, Token) or (isinstance(value, str) and value.strip()):
        return value
    if not _is_count(value):
        raise CallerError(f"{what} is a word or a token (Token(id, text), or an id from 0), got {value!r}")
    return Token(int(value))


def some_tokens(value: Any, what: str) -> tuple[TokenOrWord, ...]:
    """At least one token, each once, in the order given. Raises ``CallerError``."""
    given = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    found = tuple({one: None for one in (a_token(one, what) for one in given)})
    if not found:
        raise CallerError(f"{what} is empty: an edit without a token changes nothing")
    return found


def tokens_or_all(value: Any, what: str) -> Tokens:
    """``ALL``, or at least one token. Raises ``CallerError``."""
    return ALL if isinstance(value, str) and value == ALL else some_tokens(value, what)


def some_senses(value: Any, what: str) -> Senses:
    """``ALL``, or sense indices, each once, in order. Raises ``CallerError``."""
    if isinstance(value, str) and value == ALL:
        return ALL
    given = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not given or not all(map(_is_count, given)):
        raise CallerError(f"{what} is 'all' or sense indices from 0, got {value!r}")
    return tuple(sorted({int(one) for one in given}))


def some_positions(value: Any, what: str) -> tuple[int, ...]:
    """Positions counted from a prompt's first token. Raises ``CallerError``."""
    found = () if isinstance(value, str) else some_senses(value, what)
    if not found:
        raise CallerError(f"{what} is positions from 0, got {value!r}")
    return tuple(map(int, found))


def a_number(value: Any, what: str) -> float:
    """A finite number. Raises ``CallerError``."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise CallerError(f"{what} is a number, got {value!r}")
    if not math.isfinite(value):
        raise CallerError(f"{what} is {value}, expected a finite number")
    return float(value)


def a_quantile(value: Any, what: str) -> float:
    """A number between 0 and 1. Raises ``CallerError``."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 < value < 1:
        raise CallerError(f"{what} is a quantile between 0 and 1, got {value!r}")
    return float(value)


def a_vector(value: Any, what: str) -> np.ndarray:
    """A copy of a vector in float64, which nobody can write to. Raises ``CallerError``."""
    try:
        found = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CallerError(f"{what} is no vector of numbers: {error}") from error
    if found.ndim != 1 or not found.size:
        raise CallerError(f"{what} has shape {list(found.shape)}, expected [d_model]")
    if not np.isfinite(found).all():
        raise CallerError(f"{what} has numbers that are not finite")
    found.flags.writeable = False
    return found


def spelled(tokens: Tokens) -> str:
    """Tokens for people."""
    if tokens == ALL:
        return "every token"
    shown = ", ".join(map(shown_token, tokens[:4]))
    return shown if len(tokens) <= 4 else f"{shown} and {len(tokens) - 4} more"


def shown_token(token: TokenOrWord) -> str:
    """A token, or a word, for people."""
    return str(token) if isinstance(token, Token) else repr(token)


def of_senses(senses: Senses) -> str:
    """Senses for people."""
    if senses == ALL:
        return "every sense"
    return f"sense {senses[0]}" if len(senses) == 1 else f"senses {', '.join(map(str, senses))}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0
