"""From characters to positions: which tokens belong to which part of a text.

The rule. A token belongs to the part that has most of its characters that are not white space (all of its characters,
where it is white space only), to the first of those that have as many; characters in no part do not count. All tokens
of one character (byte-level vocabularies) have that character. A part that gets no token, because longer ones share all
of its tokens, is one feature with the part that got most of its characters. A special token (without characters, or
written out, ``<s>``) is a feature of its own, or none.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution.aggregation.subwords import SPECIAL
from interpd_attribution.features.segments import Segments, renumbered


class Part(NamedTuple):
    """Characters of a text that are one feature, alone or with others of the same ``key``."""

    start: int
    stop: int
    label: str | None = None
    """``None``: its text."""
    key: str | None = None
    """Parts with the same one, which is not ``None``, are one feature."""


def covered(
    tokens: Tokens, parts: Sequence[Part], *, special: bool = True, skip: Collection[str | int] = ()
) -> Segments:
    """The parts of a text as features of its positions, by the rule of this module.

    Args:
        tokens: The tokens of one side.
        parts: In order.
        special: Whether special tokens are features of their own; otherwise they are in none.
        skip: Tokens, by string or id, that are in none.

    Raises:
        CallerError: Parts that overlap, lie outside the text or get no token.
    """
    groups = _groups(parts)
    of_character = _by_character(tokens.text, parts, groups)
    keys: list[object] = []
    takers: dict[int, Counter[int]] = {}
    places = offsets(tokens)
    for position, (start, stop) in enumerate(places):
        if tokens.strings[position] in skip or tokens.ids[position] in skip:
            keys.append(None)
        elif is_special(tokens.text[start:stop]):
            keys.append(f"special {position}" if special else None)
        else:
            shares = _shares(tokens.text, of_character, start, stop)
            taker = min(shares, key=lambda group: (-shares[group], group), default=None)
            keys.append(taker)
            for group, count in shares.items():
                takers.setdefault(group, Counter())[taker] += count
    written = {at for start, stop in places if is_special(tokens.text[start:stop]) for at in range(start, stop)}
    there = [not written.issuperset(range(part.start, part.stop)) for part in parts]
    kept = [(part, group) for part, group, is_there in zip(parts, groups, there, strict=True) if is_there]
    return _settled(replace(tokens, text=without_special(tokens)), kept, keys, takers)


def is_special(text: str) -> bool:
    """Whether a token of these characters is no text: it has none, or is ``<s>``, ``[CLS]`` and the like."""
    return not text or SPECIAL.fullmatch(text.strip()) is not None


def without_special(tokens: Tokens) -> str:
    """The text, with white space in place of special tokens that are written out."""
    text = list(tokens.text)
    for start, stop in offsets(tokens):
        if is_special(tokens.text[start:stop]):
            text[start:stop] = " " * (stop - start)
    return "".join(text)


def cut(tokens: Tokens, n: int) -> Tokens:
    """The first ``n`` positions, and their text."""
    found = offsets(tokens)
    text = tokens.text
    if n < len(found) and found[n][1]:
        text = text[: found[n][0]]
    return replace(tokens, ids=tokens.ids[:n], strings=tokens.strings[:n], offsets=tuple(found[:n]), text=text)


def offsets(tokens: Tokens) -> Sequence[tuple[int, int]]:
    """The characters of each token; where there is nothing but ids, found again in the text that they make.

    Raises ``CallerError`` where a token's string is not in the text where it should be.
    """
    if not tokens.text or any(stop for _, stop in tokens.offsets):
        return tokens.offsets
    found: list[tuple[int, int]] = []
    at, n_pending = 0, 0
    for string in tokens.strings:
        if "\ufffd" in string:
            n_pending += 1
            continue
        if is_special(string) and string and not tokens.text[at:].lstrip().startswith(string):
            # the token that a decoder starts with is not in its text
            found.append((at, at))
            continue
        start = _found(tokens.text, string, at, n_pending > 0)
        if not string and tokens.text[at : at + 1].isspace():
            # a marker of SentencePiece by itself
            string = tokens.text[at]
        # a part of a character: what lies between two whole tokens is that of all tokens between them
        found += [(at, start)] * n_pending
        found.append((start if n_pending else at, start + len(string)))
        at, n_pending = start + len(string), 0
    return found + [(at, len(tokens.text))] * n_pending


def _found(text: str, string: str, at: int, is_behind: bool) -> int:
    """Where the string of a token begins; SentencePiece decodes a token alone without the space before it."""
    start = text.find(string, at + is_behind)
    if start < 0 or (not is_behind and text[at:start].strip()):
        raise CallerError(
            f"token {string!r} is not in the prompt's text behind {text[:at][-20:]!r}: give the prompt as text, or the "
            "features as Segments"
        )
    return start


def _groups(parts: Sequence[Part]) -> list[int]:
    """The number of each part's group: that of its first part."""
    first: dict[object, int] = {}
    return [first.setdefault(number if part.key is None else part.key, number) for number, part in enumerate(parts)]


def _by_character(text: str, parts: Sequence[Part], groups: Sequence[int]) -> np.ndarray:
    """The group of each character, -1: none."""
    found = np.full(len(text), -1)
    end = 0
    for part, group in zip(parts, groups, strict=True):
        if not end <= part.start < part.stop <= len(text):
            raise CallerError(
                f"characters {part.start} to {part.stop} ({part.label or 'a feature'!s}) of a text of {len(text)}: "
                f"expected one behind the other, from {end} on, and none empty"
            )
        found[part.start : part.stop] = group
        end = part.stop
    return found


def _shares(text: str, of_character: np.ndarray, start: int, stop: int) -> Mapping[int, int]:
    """How many of a token's characters each group has, white space only where there is nothing else."""
    seen = [at for at in range(start, stop) if not text[at].isspace()] or list(range(start, stop))
    return Counter(group for group in of_character[seen].tolist() if group >= 0)


def _settled(
    tokens: Tokens,
    parts: Sequence[tuple[Part, int]],
    keys: Sequence[object],
    takers: Mapping[int, Counter[int]],
) -> Segments:
    """The features, where each group without a token of its own is one with the group that took its characters."""
    kept = {key for key in keys if isinstance(key, int)}
    members: dict[object, list[Part]] = {}
    for part, group in parts:
        if group not in kept and group not in takers:
            said = _label(tokens.text, [part])
            raise CallerError(
                f"feature {said!r} has no token that can be left out or changed: leave it out of the features"
            )
        holder = group if group in kept else takers[group].most_common(1)[0][0]
        members.setdefault(holder, []).append(part)
    labels = {key: _label(tokens.text, found) for key, found in members.items()}
    alone = {f"special {position}": string for position, string in enumerate(tokens.strings)}
    return renumbered(keys, {**labels, **alone})


def _label(text: str, parts: Sequence[Part]) -> str:
    """What a feature is called: the names of its parts, or their text."""
    runs: list[str] = []
    end = -1
    for part in parts:
        if part.label is not None:
            if part.label not in runs:
                runs.append(part.label)
            end = -1
        elif end >= 0 and not text[end : part.start].strip():
            runs[-1] += text[end : part.stop]
            end = part.stop
        else:
            runs.append(text[part.start : part.stop])
            end = part.stop
    return " + ".join(run.strip() or run for run in runs)
