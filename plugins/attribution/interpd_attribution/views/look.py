"""What a picture may be told: the ends of its colours, what is left out, how tokens are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from interpd.errors import CallerError

MAX_SHOW_SIZE = 20


@dataclass(frozen=True)
class Look:
    """Options of all views."""

    min_val: float | None = None
    """The score of the strongest blue; by default the opposite of ``max_val``, or zero where no score is negative."""
    max_val: float | None = None
    """The score of the strongest red; by default the largest magnitude shown."""
    max_show_size: int | None = None
    """How many entries of an axis beside the tokens are drawn (20)."""
    show_dim: str | int | None = None
    """The axis whose entries stand side by side: its name, or its number (2 is the first beside the tokens)."""
    slice_dims: Mapping[str | int, tuple[int, int]] = field(default_factory=dict)
    """A span of an axis beside the tokens, by name or number."""
    replace_char: Mapping[str, str] = field(default_factory=dict)
    """Texts in tokens, and what is written instead of them."""
    wrap_after: int | str | Sequence[str] | None = None
    """Where lines of tokens end: after so many; behind a token; behind any of several, or of marks such as ``.!?``."""
    step_score_highlight: str | None = None
    """The step score that colours the generated tokens."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "slice_dims", dict(self.slice_dims or {}))
        object.__setattr__(self, "replace_char", dict(self.replace_char or {}))
        if self.max_show_size is not None and self.max_show_size < 1:
            raise CallerError(f"max_show_size is {self.max_show_size}, expected 1 or more")
        if isinstance(self.wrap_after, int) and self.wrap_after < 1:
            raise CallerError(f"wrap_after is {self.wrap_after}, expected 1 or more tokens, or tokens by their text")

    @property
    def n_shown(self) -> int:
        """Entries of an axis that are drawn at most."""
        return MAX_SHOW_SIZE if self.max_show_size is None else self.max_show_size

    def wraps(self, text: str, number: int) -> bool:
        """Whether a line ends behind the token ``number``, whose text is ``text``."""
        if isinstance(self.wrap_after, int):
            return (number + 1) % self.wrap_after == 0
        if isinstance(self.wrap_after, str):
            are_marks = not any(character.isalnum() for character in self.wrap_after)
            return text == self.wrap_after or (are_marks and len(text) == 1 and text in self.wrap_after)
        return text in (self.wrap_after or ())


LOOKS = frozenset(item.name for item in fields(Look))


def parted(options: Mapping[str, Any]) -> tuple[Look, dict[str, Any]]:
    """Options of a view, and the others, which are those of an aggregation."""
    look = Look(**{name: value for name, value in options.items() if name in LOOKS})
    return look, {name: value for name, value in options.items() if name not in LOOKS}
