"""Files of word pairs that people rated by their similarity: SimLex-999, SimVerb-3500, RG65, WS353 and their kin."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interpd.errors import InvalidRequest
from interpd_backpack.evaluation.files import read_text

SCORE_HEADINGS = ("simlex999", "score", "similarity", "human (mean)", "human", "rating", "mean", "gold")
"""What the column of the ratings is called, lower-cased, where files have a heading."""


@dataclass(frozen=True)
class WordPairs:
    """Pairs of words and their ratings, as one file has them."""

    name: str
    """Of the file, without folder and ending."""
    pairs: tuple[tuple[str, str], ...]
    ratings: np.ndarray
    """``[pair]``; the scale is the file's own."""

    def __len__(self) -> int:
        return len(self.pairs)


def read_word_pairs(path: str | Path) -> WordPairs:
    """The pairs of a file.

    Columns are parted by tabs, else by semicolons or commas, else by white space; the first two are the words. The
    rating is the column whose heading says so, else the first number behind the words (SimLex and SimVerb have the
    part of speech between). Empty lines and lines from ``#`` on are passed over; every other line counts.

    Raises:
        InvalidRequest: No such file, none of its lines is a pair, or one is none; with its number.
    """
    place = Path(path)
    numbered = enumerate(read_text(place).splitlines(), 1)
    lines = [(number, line) for number, line in numbered if line.strip() and line[0] != "#"]
    if not lines:
        raise InvalidRequest(f"{place} has no word pairs")
    part = _parting([line for _, line in lines])
    rows = [(number, [cell.strip() for cell in part.split(line.strip())]) for number, line in lines]
    column, skipped = _score_column(rows[0][1])
    found = [_pair(cells, column, f"{place}, line {number}") for number, cells in rows[skipped:]]
    if not found:
        raise InvalidRequest(f"{place} has no word pairs")
    ratings = np.array([rating for _, _, rating in found])
    return WordPairs(place.stem, tuple((one, other) for one, other, _ in found), ratings)


def _parting(lines: Sequence[str]) -> re.Pattern[str]:
    for mark in ("\t", ";", ","):
        if all(line.strip().count(mark) >= 2 for line in lines):
            return re.compile(mark)
    return re.compile(r"\s+")


def _score_column(first: Sequence[str]) -> tuple[int | None, int]:
    """Where the rating is (``None``: the first number), and how many lines are headings."""
    headings = [cell.lower() for cell in first]
    named = [number for number, cell in enumerate(headings) if number > 1 and cell in SCORE_HEADINGS]
    if named:
        # the most telling name first
        return min(named, key=lambda number: SCORE_HEADINGS.index(headings[number])), 1
    return None, int(all(_number(cell) is None for cell in first[2:]))


def _pair(cells: Sequence[str], column: int | None, place: str) -> tuple[str, str, float]:
    behind = cells[2:] if column is None else cells[column : column + 1]
    numbers = [number for cell in behind if (number := _number(cell)) is not None]
    if len(cells) < 3 or not cells[0] or not cells[1] or not numbers:
        raise InvalidRequest(f"{place} is no word pair: {' '.join(cells)!r}, expected two words and a number")
    if not np.isfinite(numbers[0]):
        raise InvalidRequest(f"{place}: the rating is {numbers[0]}, expected a finite number")
    return cells[0], cells[1], numbers[0]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
