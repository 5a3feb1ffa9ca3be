"""Numbers as colours: blue below zero, red above, nothing at zero."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from rich.color import Color
from rich.style import Style

Rgb = tuple[int, int, int]

RED, BLUE = (178, 24, 43), (33, 102, 172)
DARK_FROM = 0.8
"""Strength of a colour from which on its text is white."""
FAINT = 0.02
"""Weaker ones are not drawn."""
LEAST_WRITTEN, MOST_WRITTEN = 0.1, 1000.0
"""Where the largest number shown is outside, numbers are written with a power of ten."""


@dataclass(frozen=True)
class Scale:
    """Which number has which strength: 1 is the largest magnitude."""

    largest: float
    is_signed: bool = True

    def strength(self, value: float) -> float:
        """-1 (strongest blue) to 1 (strongest red); NaN for NaN."""
        return math.nan if math.isnan(value) else min(1.0, max(-1.0, value / self.largest))

    def written(self, value: float) -> str:
        """A number with two digits behind the point, or three where all are small."""
        if math.isnan(value):
            return "–"
        if not LEAST_WRITTEN <= self.largest < MOST_WRITTEN:
            return f"{value:.2g}"
        text = f"{value:.3f}" if self.largest < 1 else f"{value:.2f}"
        return text.removeprefix("-") if float(text) == 0 else text

    def style(self, value: float) -> Style:
        """A number's colour as the background of a terminal's text."""
        strength = self.strength(value)
        if not is_drawn(strength):
            return Style(dim=True)
        text = Color.from_rgb(*((255, 255, 255) if abs(strength) >= DARK_FROM else (0, 0, 0)))
        return Style(color=text, bgcolor=Color.from_rgb(*over_white(strength)))

    def painted(self, value: float) -> str:
        """The attributes of a coloured element of a page; what has no colour is dim."""
        strength = self.strength(value)
        if not is_drawn(strength):
            return ' class="z"'
        classes = ("p" if strength >= 0 else "n") + (" s" if abs(strength) >= DARK_FROM else "")
        return f' class="{classes}" style="--a:{abs(strength):.3g}"'

    def legend_html(self) -> str:
        """The ends of the colours."""
        low, bar = (f"{-self.largest:.4g}", "signed") if self.is_signed else ("0", "plain")
        ends = f'<span>{low}</span><span class="bar {bar}"></span><span>{self.largest:.4g}</span>'
        return f'<div class="legend">{ends}</div>'

    def said(self) -> str:
        """The ends of the colours in words."""
        if self.is_signed:
            return f"{-self.largest:.4g} (blue) to {self.largest:.4g} (red)"
        return f"0 to {self.largest:.4g} (red)"


def scale(arrays: Iterable[np.ndarray]) -> Scale:
    """The scale of numbers that are shown together."""
    finite = [array[np.isfinite(array)] for array in map(np.asarray, arrays)]
    largest = max((float(np.abs(part).max()) for part in finite if part.size), default=0.0)
    return Scale(largest or 1.0, any(bool((part < 0).any()) for part in finite))


def over_white(strength: float) -> Rgb:
    """A colour of full opacity: white mixed with red or blue."""
    colour, share = (RED if strength >= 0 else BLUE), abs(strength)
    red, green, blue = (round(255 + (part - 255) * share) for part in colour)
    return red, green, blue


def is_drawn(strength: float) -> bool:
    """Whether a colour can be told from none."""
    return not math.isnan(strength) and abs(strength) >= FAINT
