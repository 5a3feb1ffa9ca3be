"""Neighbouring tokens as groups: what merging tokens does to tokens, to an axis of scores and to positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.aggregation.functions import AggregationFunction

if TYPE_CHECKING:
    from interpd_attribution.attribution import Token

Span = tuple[int, int]
Spans = Span | Sequence[Span] | None


@dataclass(frozen=True)
class Group:
    """Tokens ``start`` up to ``stop``."""

    start: int
    stop: int
    is_merged: bool
    """Whether a span names it; a token beside the spans stays what it is."""


@dataclass(frozen=True)
class Partition:
    """Groups that cover a sequence of tokens, in order."""

    groups: tuple[Group, ...]

    @property
    def is_trivial(self) -> bool:
        """Whether nothing is merged."""
        return not any(group.is_merged for group in self.groups)

    def group_of(self, position: int) -> int:
        """The number of the group with a token; behind the last token, the number of groups."""
        return next((number for number, group in enumerate(self.groups) if position < group.stop), len(self.groups))

    def within(self, start: int, stop: int) -> "Partition":
        """The groups of a part of the tokens, counted from its start. What reaches beyond it is cut off."""
        cut = ((max(group.start, start), min(group.stop, stop), group.is_merged) for group in self.groups)
        return Partition(tuple(Group(a - start, b - start, is_merged) for a, b, is_merged in cut if a < b))

    def merge_tokens(self, tokens: "Sequence[Token]") -> "tuple[Token, ...]":
        """One token for each group: the texts joined, with the id -1 where there are several."""
        return tuple(_joined(tokens[group.start : group.stop]) for group in self.groups)

    def merge(self, array: np.ndarray, axis: int, function: AggregationFunction) -> np.ndarray:
        """``array`` with one entry for each group along ``axis``."""
        if self.is_trivial:
            return array
        moved = np.moveaxis(array, axis, 0)
        parts = [
            function(moved[group.start : group.stop], 0)[None] if group.is_merged else moved[group.start : group.stop]
            for group in self.groups
        ]
        return np.moveaxis(np.concatenate(parts), 0, axis)


def partition(n_tokens: int, spans: Spans, what: str) -> Partition:
    """``n_tokens`` tokens, merged where ``spans`` say: one pair ``(start, stop)``, or several, in order and apart.

    Raises:
        CallerError: A span that is empty, overlaps its neighbour or lies outside; ``what`` names the spans.
    """
    groups: list[Group] = []
    done = 0
    for start, stop in listed(spans, what):
        if not done <= start < stop <= n_tokens:
            raise CallerError(
                f"{what} has the span ({start}, {stop}), but spans must be non-empty, in ascending order, apart "
                f"from one another, and within 0 to {n_tokens}"
            )
        groups += [Group(number, number + 1, False) for number in range(done, start)]
        groups.append(Group(start, stop, True))
        done = stop
    return Partition((*groups, *(Group(number, number + 1, False) for number in range(done, n_tokens))))


def listed(spans: Spans, what: str) -> list[Span]:
    """Spans as a list of pairs, from one pair or several."""
    if not spans:
        return []
    pairs = [spans] if all(_is_number(item) for item in spans) else list(spans)
    wrong = [
        item for item in pairs if not (isinstance(item, Sequence) and len(item) == 2 and all(map(_is_number, item)))
    ]
    if wrong:
        raise CallerError(f"{what} holds {wrong[0]!r}, expected pairs of positions (start, stop)")
    return [(int(start), int(stop)) for start, stop in pairs]


def _is_number(item: object) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _joined(tokens: "Sequence[Token]") -> "Token":
    return tokens[0] if len(tokens) == 1 else tokens[0]._replace(text="".join(item.text for item in tokens), id=-1)
