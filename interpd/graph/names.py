"""Names in messages: quoted, cut when a stranger sent a novel, and with the nearest known name."""

import re
from collections.abc import Collection
from difflib import get_close_matches

_LONGEST = 80
ARTIFACT_NAME_CHARACTERS = 200
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def quoted(name: object) -> str:
    """``repr(name)``, cut to a readable length."""
    text = repr(name)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def artifact_name_problem(name: str) -> str:
    """What is wrong with the name of an artifact; empty when it may be used: it is a file name in a client, too."""
    if _ARTIFACT_NAME.fullmatch(name) and len(name) <= ARTIFACT_NAME_CHARACTERS:
        return ""
    wanted = f"1 to {ARTIFACT_NAME_CHARACTERS} of a-z A-Z 0-9 - _ . and does not begin with '.'"
    return f"the name of an artifact has {wanted}; got {quoted(name)}"


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
