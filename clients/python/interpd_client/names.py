"""Names that do not exist, and what was probably meant."""

import difflib
from collections.abc import Iterable


class UnknownName(AttributeError):
    """An attribute, site, operation or result that does not exist; the message names the nearest one that does.

    Args:
        message: What is unknown and where it was looked for.
        name: The name as written.
        nearest: Names that exist, best first.
    """

    def __init__(self, message: str, *, name: str = "", nearest: Iterable[str] = ()) -> None:
        self.nearest: tuple[str, ...] = tuple(nearest)
        super().__init__(f"{message}{advice(self.nearest)}", name=name)


def nearest_names(name: str, known: Iterable[str], n: int = 3) -> tuple[str, ...]:
    """Up to ``n`` of ``known`` that resemble ``name``, best first."""
    # a private name is nobody's business, even where it resembles best
    options = [option for option in dict.fromkeys(known) if name.startswith("_") or not option.startswith("_")]
    found = difflib.get_close_matches(name, options, n=n, cutoff=0.6)
    if not found:
        lowered = name.lower()
        found = [option for option in options if lowered in option.lower()][:n]
    return tuple(found)


def advice(nearest: Iterable[str]) -> str:
    """``; did you mean 'a' or 'b'?``, or nothing where there is nothing to say."""
    names = [repr(name) for name in nearest]
    return f"; did you mean {' or '.join(names)}?" if names else ""
