"""Scores as colours: blue below zero, red above, nothing at zero; green for scores of another kind."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from interpd.errors import CallerError

Rgb = tuple[int, int, int]

RED, BLUE = (178, 24, 43), (33, 102, 172)
GREEN, BROWN = (0, 109, 44), (140, 81, 10)
WHITE = (255, 255, 255)
DARK_FROM = 0.8
"""Strength of a colour from which on its text is white."""
FAINT = 0.02
"""Weaker ones are not drawn."""


@dataclass(frozen=True)
class Scale:
    """Which score has which strength."""

    low: float
    high: float

    @property
    def is_signed(self) -> bool:
        """Whether zero is its middle."""
        return self.low < 0

    def strength(self, score: float) -> float:
        """-1 (strongest blue) to 1 (strongest red); NaN for NaN."""
        if math.isnan(score):
            return math.nan
        if self.is_signed:
            end = self.high if score >= 0 else -self.low
            return _clipped(score / end) if end > 0 else 0.0
        return max(0.0, _clipped((score - self.low) / (self.high - self.low)))

    def strengths(self, scores: np.ndarray) -> np.ndarray:
        """``strength`` of each."""
        if self.is_signed:
            ends = np.where(scores >= 0, self.high if self.high > 0 else np.inf, -self.low)
            return np.clip(scores / ends, -1.0, 1.0)
        return np.clip((scores - self.low) / (self.high - self.low), 0.0, 1.0)

    @property
    def exponent(self) -> int:
        """The power of ten in which numbers are written, where they would be too small or large to read: 0, -3, ..."""
        largest = max(abs(self.low), abs(self.high))
        return 0 if 0.01 <= largest < 1000 else 3 * math.floor(math.log10(largest) / 3)

    def written(self, score: float) -> str:
        """A score with three digits behind the point, in units of ``exponent``."""
        if math.isnan(score):
            return ""
        return f"{score / 10.0**self.exponent:.3f}".replace("-0.000", "0.000")

    @property
    def unit(self) -> str:
        """What the written numbers are to be multiplied with: ``×10⁻³``, or nothing."""
        return f"×10{str(self.exponent).translate(_RAISED)}" if self.exponent else ""


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def scale(arrays: Iterable[np.ndarray | None], low: float | None = None, high: float | None = None) -> Scale:
    """The scale of scores that are shown together: symmetric around zero where one of them is negative."""
    finite = [array[np.isfinite(array)] for array in arrays if array is not None]
    smallest = min((float(part.min()) for part in finite if part.size), default=0.0)
    largest = max((float(np.abs(part).max()) for part in finite if part.size), default=0.0) or 1.0
    top = largest if high is None else float(high)
    bottom = (-top if smallest < 0 and top > 0 else 0.0) if low is None else float(low)
    if not bottom < top:
        raise CallerError(f"colours go from {bottom:g} to {top:g}; min_val must be below max_val")
    return Scale(bottom, top)


def over_white(strength: float, positive: Rgb = RED, negative: Rgb = BLUE) -> Rgb:
    """A colour of full opacity: white mixed with red or blue."""
    colour, share = (positive if strength >= 0 else negative), abs(strength)
    return tuple(round(white + (part - white) * share) for white, part in zip(WHITE, colour, strict=True))


def is_drawn(strength: float) -> bool:
    """Whether a colour can be told from none."""
    return not math.isnan(strength) and abs(strength) >= FAINT


def _clipped(value: float) -> float:
    return min(1.0, max(-1.0, value))
