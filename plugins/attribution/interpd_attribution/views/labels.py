"""Tokens as labels: what cannot be seen is written out."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from interpd_attribution.numbers import numbers

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution, Token

_SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍", "": "∅"}


def label(token: "Token", replaced: Mapping[str, str] | None = None) -> str:
    """A token's text on one line. Line feeds, tabs and control characters are written as signs, blanks around it as
    ``␣``; a text of nothing is ``∅``."""
    text = token.text
    for old, new in (replaced or {}).items():
        text = text.replace(old, new)
    core = text.strip(" ")
    text = "␣" * len(text) if not core else text
    return "".join(_SIGNS.get(item, item if _is_visible(item) else f"\\u{ord(item):04x}") for item in text) or "∅"


def labels(tokens: "Sequence[Token]", replaced: Mapping[str, str] | None = None) -> list[str]:
    """``label`` of each."""
    return [label(token, replaced) for token in tokens]


def input_labels(attribution: "Attribution", side: str, replaced: Mapping[str, str] | None = None) -> list[str]:
    """``label`` of each input of a side, what was read: of an attributed token that is contrasted, ``foil → target``,
    the target."""
    found = labels(getattr(attribution, side), replaced)
    if side == "source" or not str(attribution.info.get("attributed_fn", "")).startswith("contrast_"):
        return found
    start, stop = attribution.attr_pos_start, attribution.attr_pos_end
    read = [text.rpartition(" → ")[2] for text in found[start:stop]]
    return [*found[:start], *read, *found[stop:]]


def title(attribution: "Attribution") -> str:
    """One line that says what was attributed: the method, what it was told to explain, and what the numbers are."""
    info = attribution.info
    # that a method gave vectors is seen in what was done to them, or in the axes
    method = str(info.get("attribution_method", "attribution")).removesuffix("_vectors").removesuffix("_heads")
    target = info.get("attributed_fn")
    name = f"{method} of {str(target).removesuffix('_fn')}" if target else method
    under = info.get("under")
    name += f" under writes at {', '.join(map(str, under))}" if isinstance(under, list) and under else ""
    return f"{name}; {numbers(attribution)}" if attribution.has_scores else name


def _is_visible(character: str) -> bool:
    """Not control, format (which could turn the direction of the line), surrogate or unassigned characters.

    Joiners, which Persian and many emoji are written with, join.
    """
    return character in " \u200c\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")
