"""The factor of a sense that makes a bias least, exactly.

With sense l of a word scaled by p, the log ratio of two tokens' probabilities at the end of prompt m is
``a_m + b_m (p - 1)``: logits are linear in senses, and the softmax's normaliser drops out of a ratio. So the published
bias, the mean of ``max(r, 1/r)``, is ``mean_m exp|a_m + b_m (p - 1)|``: convex, with kinks where a ratio is 1.
Its minimum is at a kink or where the derivative between two kinks is zero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interpd.errors import CallerError

Numbers = NDArray[np.float64]

MOST_STEPS = 200
"""Of Newton and bisection together; halving alone exhausts float64 in fewer."""
KINK = 8 * float(np.finfo(np.float64).eps)
"""Relative size of a log ratio that is zero but for rounding."""
GRID = 2001
"""Factors that are tried first where the objective need not be convex."""


@dataclass(frozen=True)
class Optimum:
    """Where an objective is least."""

    factor: float
    """p."""
    value: float
    """The objective there, the penalty included."""
    is_exact: bool = True
    """Whether it is proved to be the least of all (convex objectives); ``False``: the best of a grid, refined."""


def bias(log_ratios: ArrayLike) -> Numbers:
    """The published bias, the mean of ``max(r, 1/r)`` over the last axis of log ratios."""
    return np.exp(np.abs(np.asarray(log_ratios, dtype=np.float64))).mean(-1)


def best_factor(
    offsets: ArrayLike, slopes: ArrayLike, *, penalty: float = 0.0, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Optimum:
    """The factor p with the least ``mean_m exp|a_m + b_m (p - 1)| + penalty |p - 1|``, to rounding.

    1 where nothing depends on the factor.

    Args:
        offsets: a, the log ratios as they are, ``[prompt]``.
        slopes: b, what one unit of the factor adds to each, ``[prompt]``.
        penalty: On leaving 1; the published optimiser has 1.
        bounds: Least and greatest factor.

    Raises:
        CallerError: Numbers that are not finite, a negative penalty, or bounds that hold no number.
    """
    objective = _Convex(np.asarray(offsets, np.float64), np.asarray(slopes, np.float64), float(penalty))
    low, high = bounds[0] - 1, bounds[1] - 1
    if not low <= high:
        raise CallerError(f"bounds are {bounds}, expected the least factor first")
    # the minimum lies between least and greatest: of bounds beside them the nearer one is the best
    low, high = max(low, min(objective.least, high)), min(high, max(objective.greatest, low))
    step = objective.minimiser(low, high)
    return Optimum(1 + step, objective(step))


def best_of_grid(objective: Callable[[Numbers], Numbers], bounds: tuple[float, float]) -> Optimum:
    """The least of any function of a factor: the best of a grid, refined by golden section between its neighbours.

    Args:
        objective: From factors ``[n]`` to values ``[n]``.
        bounds: Least and greatest factor, both finite.
    """
    if not (math.isfinite(bounds[0]) and math.isfinite(bounds[1]) and bounds[0] < bounds[1]):
        raise CallerError(f"bounds are {bounds}: for sets of several tokens both must be finite, the least one first")
    grid = np.unique(np.append(np.linspace(*bounds, GRID), np.clip(1.0, *bounds)))
    at = int(np.argmin(objective(grid)))
    best = float(grid[at])
    low, high = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, len(grid) - 1)])
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(MOST_STEPS):
        inner = np.array([high - golden * (high - low), low + golden * (high - low)])
        left, right = objective(inner)
        low, high = (low, float(inner[1])) if left <= right else (float(inner[0]), high)
        if high - low <= KINK * max(1.0, abs(low)):
            break
    middle = (low + high) / 2
    if objective(np.array([middle]))[0] < objective(np.array([best]))[0]:
        best = middle
    return Optimum(best, float(objective(np.array([best]))[0]), is_exact=False)


class _Convex:
    """``f(x) = mean_m exp|a_m + b_m x| + penalty |x|``, with x = p - 1."""

    def __init__(self, a: Numbers, b: Numbers, penalty: float) -> None:
        if not a.size or a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise CallerError("log ratios and their slopes must be finite, and as many of the one as of the other")
        if not penalty >= 0:
            raise CallerError(f"penalty is {penalty}, expected 0 or more")
        self._a, self._b, self._penalty = a.ravel(), b.ravel(), penalty
        self._of_zero = self(0.0)
        if not math.isfinite(self._of_zero):
            raise CallerError("the bias is not a finite number as it is: a ratio of probabilities overflows")
        self.least, self.greatest = self._bracket()

    def __call__(self, x: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp(np.abs(self._a + self._b * x)).mean() + self._penalty * abs(x))

    def minimiser(self, low: float, high: float) -> float:
        """The x in [low, high] where f is least."""
        moving = self._b != 0
        if not moving.any():
            return min(max(0.0, low), high)
        kinks = -self._a[moving] / self._b[moving]
        points = np.unique(np.clip(np.append(kinks, [0.0, low, high]), low, high))
        # the first point from which f does not fall any more: derivatives of a convex function never fall
        first, last = 0, len(points) - 1
        while first < last:
            middle = (first + last) // 2
            first, last = (first, middle) if self._slope(points[middle], 1) >= 0 else (middle + 1, last)
        if first == 0 or self._slope(points[first], -1) <= 0:
            return float(points[first])
        return self._between(float(points[first - 1]), float(points[first]))

    def _bracket(self) -> tuple[float, float]:
        """Where f is not above f(0): every term of a sum is at most the sum."""
        low, high = -math.inf, math.inf
        bound = math.log(self._of_zero * len(self._a)) + 1e-9
        for a, b in zip(self._a, self._b, strict=True):
            if b:
                ends = sorted(((-bound - a) / b, (bound - a) / b))
                low, high = max(low, ends[0]), min(high, ends[1])
        if low == -math.inf:
            return 0.0, 0.0
        return min(low, 0.0), max(high, 0.0)

    def _slope(self, x: float, side: int) -> float:
        """The derivative from the right (side 1) or from the left (-1)."""
        at = self._a + self._b * x
        is_kink = np.abs(at) <= KINK * (np.abs(self._a) + np.abs(self._b * x))
        sign = np.where(is_kink, side * np.sign(self._b), np.sign(at))
        of_penalty = math.copysign(1.0, x) if x else side
        return float((sign * self._b * np.exp(np.abs(at))).mean() + self._penalty * of_penalty)

    def _between(self, low: float, high: float) -> float:
        """Where the derivative is zero, with no kink inside: Newton, halved where it leaves the interval."""
        inside = (low + high) / 2
        sign = np.sign(self._a + self._b * inside)
        of_penalty = self._penalty * math.copysign(1.0, inside)
        x = inside
        for _ in range(MOST_STEPS):
            powers = np.exp(sign * (self._a + self._b * x)) * self._b
            slope = float((sign * powers).mean()) + of_penalty
            low, high = (x, high) if slope < 0 else (low, x)
            curvature = float((powers * self._b).mean())
            step = x - slope / curvature if curvature > 0 else math.nan
            following = step if low < step < high else (low + high) / 2
            if following == x or high - low <= KINK * max(abs(low), abs(high)):
                break
            x = following
        return x
