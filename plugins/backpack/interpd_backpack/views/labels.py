"""Tokens as labels: what cannot be seen is written out."""

import unicodedata
from html import escape

from rich.text import Text

BLANK = "␣"
_SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def label(text: str) -> str:
    """A token's text on one line: a blank at its beginning or end is ``␣``, line feeds, tabs and control characters
    are signs, a text of nothing is ``∅``."""
    core = text.strip(" ")
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    if not core:
        return BLANK * len(text) or "∅"
    seen = "".join(_SIGNS.get(item, item if _is_visible(item) else f"\\u{ord(item):04x}") for item in core)
    return BLANK * before + seen + BLANK * after


def label_html(text: str) -> str:
    """``label`` for a page: its blanks are dim."""
    return f"<bdi>{escape(label(text)).replace(BLANK, f'<span class=b>{BLANK}</span>')}</bdi>"


def label_text(text: str, style: str = "") -> Text:
    """``label`` for a terminal: its blanks are dim where nothing colours it."""
    found = Text(label(text), style)
    if not style:
        found.highlight_regex(BLANK, "dim")
    return found


def _is_visible(character: str) -> bool:
    """Not control, format (which could turn the direction of the line), surrogate or unassigned characters.

    Joiners, which Persian and many emoji are written with, join.
    """
    return character in " \u200c\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")
