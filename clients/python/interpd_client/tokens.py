"""Positions of a prompt by what they hold: ``t.tokens("Marsh")``, usable inside any index."""

import operator
from collections.abc import Callable
from typing import SupportsIndex, final

from interpd.errors import PositionOutOfRange
from interpd.graph.positions import of_text
from interpd.graph.run import Tokens


@final
class Positions(tuple[int, ...]):
    """Token positions, counted from the prompt's first token.

    Inside an index they keep the axis (``h[:, t.tokens("Marsh")]``); one of them (``t.tokens("Marsh")[-1]``) does not.
    """

    __slots__ = ()

    @property
    def first(self) -> int:
        """The first position."""
        return self[0]

    @property
    def last(self) -> int:
        """The last position: where a name of several tokens is complete."""
        return self[-1]


@final
class TokenPositions:
    """The tokens of one prompt. The service is asked once, and not before something here is used."""

    def __init__(self, tokens: Callable[[], Tokens]) -> None:
        self._tokens = tokens

    def __call__(self, what: str | SupportsIndex | slice, occurrence: int | None = None) -> Positions:
        """The positions of a piece of the prompt's text, of an index or of a slice.

        Args:
            what: A text, a position (negative: from the end), or a slice of positions.
            occurrence: Which one where the text stands several times, from 0 (negative: from the end).

        Raises:
            PositionOutOfRange: The prompt does not have it, or has the text several times.
        """
        if isinstance(what, str):
            return Positions(of_text(self._tokens(), what, occurrence))
        if occurrence is not None:
            raise TypeError("occurrence says which text is meant; a position or slice is meant once")
        found = self[what]
        return found if isinstance(found, Positions) else Positions((found,))

    def __getitem__(self, index: SupportsIndex | slice) -> int | Positions:
        """One position counted from the start, or those of a slice. Raises ``PositionOutOfRange``."""
        n_tokens = len(self)
        if isinstance(index, slice):
            found = Positions(range(n_tokens)[index])
            if not found:
                raise PositionOutOfRange(f"no token lies in {_spelled(index)}: the prompt has {n_tokens} tokens")
            return found
        number = operator.index(index)
        if not -n_tokens <= number < n_tokens:
            raise PositionOutOfRange(f"no token {number}: the prompt has {n_tokens} tokens")
        return number % n_tokens

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the tokens."""
        return self._tokens().ids

    @property
    def strings(self) -> tuple[str, ...]:
        """The text of each token."""
        return self._tokens().strings

    def __repr__(self) -> str:
        return f"<tokens {' '.join(f'{number}:{text!r}' for number, text in enumerate(self.strings))}>"


def _spelled(index: slice) -> str:
    parts = [index.start, index.stop, *([] if index.step is None else [index.step])]
    return ":".join("" if part is None else str(part) for part in parts)
