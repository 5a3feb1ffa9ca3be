"""Positions of a prompt by what they hold: ``t.tokens("Marsh")``, usable inside any index."""

import operator
from collections.abc import Callable, Iterable
from typing import SupportsIndex, final

from interpd.errors import PositionOutOfRange
from interpd.graph.positions import of_text
from interpd.graph.run import Tokens

SOURCE, TARGET = "source", "target"
SIDES = (SOURCE, TARGET)
"""The sides of a prompt of an encoder-decoder model."""


@final
class Position(int):
    """One token position of an encoder-decoder model, which knows whether it counts the source or the target."""

    side: str


@final
class Positions(tuple[int, ...]):
    """Token positions, counted from the prompt's first token.

    Inside an index they keep the axis (``h[:, t.tokens("Marsh")]``); one of them (``t.tokens("Marsh")[-1]``) does not.
    """

    side: str | None = None
    """``source`` or ``target``, for an encoder-decoder model: such positions fit only where that side is counted."""

    @property
    def first(self) -> int:
        """The first position."""
        return self[0]

    @property
    def last(self) -> int:
        """The last position: where a name of several tokens is complete."""
        return self[-1]


class TokenPositions:
    """The tokens of one prompt. The service is asked once, and not before something here is used.

    Of an encoder-decoder model ``source`` and ``target`` are the tokens of each side; each use has to name one.
    """

    def __init__(self, tokens: Callable[[], Tokens], side: str | None = None) -> None:
        self._tokens = tokens
        self._side = side

    def __call__(
        self, what: str | SupportsIndex | slice, occurrence: int | None = None, *, side: str | None = None
    ) -> Positions:
        """The positions of a piece of the prompt's text, of an index or of a slice.

        Args:
            what: A text, a position (negative: from the end), or a slice of positions.
            occurrence: Which one where the text stands several times, from 0 (negative: from the end).
            side: ``source`` or ``target``, of an encoder-decoder model.

        Raises:
            PositionOutOfRange: The prompt does not have it, or has the text several times.
        """
        if side is not None:
            return self._of(side)(what, occurrence)
        if isinstance(what, str):
            return self._sided(of_text(self._own, what, occurrence))
        if occurrence is not None:
            raise TypeError("occurrence says which text is meant; a position or slice is meant once")
        found = self[what]
        return found if isinstance(found, Positions) else self._sided((found,))

    def __getitem__(self, index: SupportsIndex | slice) -> int | Positions:
        """One position counted from the start, or those of a slice. Raises ``PositionOutOfRange``."""
        n_tokens = len(self)
        if isinstance(index, slice):
            found = self._sided(range(n_tokens)[index])
            if not found:
                raise PositionOutOfRange(f"no token lies in {_spelled(index)}: {self._what} has {n_tokens} tokens")
            return found
        number = operator.index(index)
        if not -n_tokens <= number < n_tokens:
            raise PositionOutOfRange(f"no token {number}: {self._what} has {n_tokens} tokens")
        return _position(number % n_tokens, self._side)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def source(self) -> "TokenPositions":
        """The tokens that the encoder is given. Raises ``TypeError`` for a model without one."""
        return self._of(SOURCE)

    @property
    def target(self) -> "TokenPositions":
        """The tokens that the decoder is given, its start token first. Raises ``TypeError`` for a model of one side."""
        return self._of(TARGET)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the tokens."""
        return self._own.ids

    @property
    def strings(self) -> tuple[str, ...]:
        """The text of each token."""
        return self._own.strings

    def __repr__(self) -> str:
        if self._side is None and self._tokens().target is not None:
            return f"<source {self.source!r}, target {self.target!r}>"
        return f"<tokens {' '.join(f'{number}:{text!r}' for number, text in enumerate(self.strings))}>"

    def _of(self, side: str) -> "TokenPositions":
        if side not in SIDES:
            raise TypeError(f"side is 'source' or 'target', got {side!r}")
        if self._tokens().target is None:
            raise TypeError("the model has no encoder, so its prompts have one side: leave it out, `t.tokens(...)`")
        return TokenPositions(self._tokens, side)

    @property
    def _own(self) -> Tokens:
        tokens = self._tokens()
        if tokens.target is None or self._side == SOURCE:
            return tokens
        if self._side is None:
            raise TypeError(
                "the prompt has a source and a target; say whose tokens are meant: `t.tokens.source(...)` or "
                "`t.tokens.target(...)`"
            )
        return tokens.target

    @property
    def _what(self) -> str:
        return f"the {self._side}" if self._side else "the prompt"

    def _sided(self, places: Iterable[int]) -> Positions:
        found = Positions(_position(place, self._side) for place in places)
        found.side = self._side
        return found


def _position(place: int, side: str | None) -> int:
    if side is None:
        return place
    found = Position(place)
    found.side = side
    return found


def _spelled(index: slice) -> str:
    parts = [index.start, index.stop, *([] if index.step is None else [index.step])]
    return ":".join("" if part is None else str(part) for part in parts)
