"""Repetitions: both sides in turn, so that whatever else the machine does hurts both alike, and medians of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Side = Callable[[int], float]
"""Does the work once, for a repetition of this number, and gives the seconds that it took."""


def timed(work: Callable[[int], object]) -> Side:
    """A side whose work is timed from here."""

    def side(number: int) -> float:
        began = time.perf_counter()
        work(number)
        return time.perf_counter() - began

    return side


def in_turn(
    sides: Mapping[str, Side], n: int, *, n_warm: int = 1, tell: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, list[float]]:
    """The seconds of ``n`` repetitions of each side.

    The order changes from one repetition to the next (a b, b a, ...), so that going first favours nobody.

    Args:
        sides: By name.
        n: Repetitions that count.
        n_warm: Repetitions before them that do not.
        tell: Is told how many repetitions are done, of how many.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(n_warm + n):
        names = list(sides) if number % 2 else list(reversed(sides))
        for name in names:
            seconds = sides[name](number)
            if number >= n_warm:
                found[name].append(seconds)
        tell(number + 1, n_warm + n)
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each side."""
    return {name: statistics.median(seconds) for name, seconds in found.items()}
