"""Names in messages: quoted, cut when a stranger sent a novel, and with the nearest known name."""

from collections.abc import Collection
from difflib import get_close_matches

_LONGEST = 80


def quoted(name: object) -> str:
    """``repr(name)``, cut to a readable length."""
    text = repr(name)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class Suggestions:
    """Nearest names, each looked up once and only so many of them: the search costs milliseconds."""

    def __init__(self, most: int = 32) -> None:
        self._left = most
        self._known: dict[tuple[str, str], str] = {}

    def near(self, name: object, kind: str, known: Collection[str]) -> str:
        """``; did you mean 'layers.3.resid_post'?``, or nothing."""
        if not isinstance(name, str) or len(name) > _LONGEST:
            return ""
        hint = self._known.get((kind, name))
        if hint is None and self._left > 0:
            self._left -= 1
            found = get_close_matches(name, known, 1)
            hint = self._known[kind, name] = f"; did you mean {found[0]!r}?" if found else ""
        return hint or ""
