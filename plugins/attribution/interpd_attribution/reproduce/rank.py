"""Kendall's rank correlation with its p-value, as in ``scipy.stats.kendalltau``."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

SMALL = 200
"""Up to so many pairs without ties, the p-value is exact."""


@dataclass(frozen=True)
class Kendall:
    """tau-b, and how probable one as far from zero is where nothing is related."""

    tau: float
    p_value: float

    def __str__(self) -> str:
        return f"{self.tau:.2f}{'*' if self.p_value < 0.05 else ''}"


def kendall(one: Sequence[float], other: Sequence[float]) -> Kendall:
    """Kendall's tau-b of two series, two-sided p-value (Kendall 1970; with ties by the normal approximation).

    Raises ``ValueError`` for series of different lengths, of less than two numbers, or of numbers that are all equal.
    """
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(f"two series of the same length are wanted, of two numbers at least: {len(one)}, {len(other)}")
    pairs = list(zip(one, other, strict=True))
    score = sum(_sign(a[0] - b[0]) * _sign(a[1] - b[1]) for a, b in combinations(pairs, 2))
    n = len(pairs)
    total = n * (n - 1) // 2
    ties = [list(Counter(series).values()) for series in (one, other)]
    left, right = (total - sum(t * (t - 1) // 2 for t in counts) for counts in ties)
    if not left * right:
        raise ValueError("a series of equal numbers has no ranks")
    tau = score / math.sqrt(left * right)
    is_exact = left == right == total and n <= SMALL
    return Kendall(tau, _exact(n, (total - score) // 2) if is_exact else _normal(n, score, ties))


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


def _exact(n: int, inversions: int) -> float:
    """Twice the share of the orders of ``n`` things with as few inversions, or as many."""
    few = min(inversions, n * (n - 1) // 2 - inversions)
    if 4 * few >= n * (n - 1):
        return 1.0
    counts = [1] + [0] * few
    for size in range(2, n + 1):
        # a thing put into ``size`` places adds 0 to ``size - 1`` inversions: differences of running sums
        sums = [0]
        for count in counts:
            sums.append(sums[-1] + count)
        counts = [sums[i + 1] - sums[max(0, i + 1 - size)] for i in range(few + 1)]
    return min(1.0, 2 * sum(counts) / math.factorial(n))


def _normal(n: int, score: int, ties: Sequence[Sequence[int]]) -> float:
    spread = [sum(t * (t - 1) * (2 * t + 5) for t in counts) for counts in ties]
    pairs = [sum(t * (t - 1) for t in counts) for counts in ties]
    triples = [sum(t * (t - 1) * (t - 2) for t in counts) for counts in ties]
    variance = (n * (n - 1) * (2 * n + 5) - sum(spread)) / 18 + pairs[0] * pairs[1] / (2 * n * (n - 1))
    if n > 2:
        variance += triples[0] * triples[1] / (9 * n * (n - 1) * (n - 2))
    return math.erfc(abs(score) / math.sqrt(2 * variance))
