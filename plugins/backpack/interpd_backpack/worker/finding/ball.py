"""The degradation ball: additions to senses with which texts are hardly less likely than before."""

from collections.abc import Callable

from torch import Tensor

from interpd_backpack.worker.finding.cached import Rows
from interpd_backpack.worker.finding.losses import LOGITS, log_probabilities

SEARCH_STEPS = 16
"""Halvings of the share: it is found to 1/65536."""


class Ball:
    """NLL of held-out texts with something added, relative to what it was (Hewitt et al. 2024, section 3).

    Along a line of additions the NLL is convex: a log of a sum of exponentials of linear functions, less a linear one.
    So the shares of an addition that lie inside the ball are an interval that begins at 0.

    Args:
        rows: Of the texts.
        unembedding: E.
        breathe: Called now and then; may raise.
    """

    def __init__(self, rows: Rows, unembedding: Tensor, breathe: Callable[[], None]) -> None:
        self._unembedding, self._breathe = unembedding, breathe
        is_reached = (rows.weights != 0).any(1)
        self._reached = rows.part(is_reached)
        nothing = rows.mix.new_zeros(rows.weights.shape[1], rows.mix.shape[1])
        self._unchanged = self._total(rows.part(~is_reached), nothing)
        self._base = self._unchanged + self._total(self._reached, nothing)

    def ratio(self, delta: Tensor) -> float:
        """NLL with ``delta`` ``[pair d_model]`` over NLL without."""
        if not delta.any():
            return 1.0
        return (self._unchanged + self._total(self._reached, delta)) / self._base

    def share(self, delta: Tensor, radius: float, rounded: Callable[[Tensor], Tensor]) -> float:
        """The greatest share of ``delta``, to 1/65536, that ``rounded`` leaves inside the ball."""
        if self.ratio(rounded(delta)) <= 1 + radius:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            is_inside = self.ratio(rounded(middle * delta)) <= 1 + radius
            low, high = (middle, high) if is_inside else (low, middle)
        return low

    def _total(self, rows: Rows, delta: Tensor) -> float:
        """-log p, summed in float64."""
        total, size = 0.0, max(1, LOGITS // len(self._unembedding))
        for start in range(0, len(rows.targets), size):
            self._breathe()
            part = rows.part(slice(start, start + size))
            total -= float(log_probabilities(part, delta, self._unembedding).double().sum())
        return total
