"""Linear surrogates of what coalitions are worth: least squares with a fixed sum, ridge, and lasso."""

from dataclasses import dataclass

import numpy as np

from interpd.sdk import CallerError

Array = np.ndarray

MOST_SWEEPS = 20_000
"""Of coordinate descent, before it is given up."""

TOLERANCE = 1e-10
"""Coordinate descent ends when no coefficient moves the prediction by more than this part of the outcomes' spread."""


@dataclass(frozen=True)
class Fit:
    """A linear function of the features for each column."""

    coefficients: Array
    """``[feature column]``."""
    intercepts: Array
    """``[column]``."""

    def predicted(self, x: Array) -> Array:
        """What it says of rows, ``[row column]``."""
        return x @ self.coefficients + self.intercepts


def ridge(x: Array, y: Array, weights: Array, alpha: float) -> Fit:
    """The minimum of ``sum(weights * (y - x b - c)^2) + alpha |b|^2``.

    ``x``: ``[row feature]``; ``y``: ``[row column]``; ``weights``: ``[row]``. Raises ``CallerError`` without a penalty
    where the rows do not tell the features apart.
    """
    x_mean, y_mean = weights @ x / weights.sum(), weights @ y / weights.sum()
    weighted = (x - x_mean) * weights[:, None]
    gram = weighted.T @ (x - x_mean) + alpha * np.eye(x.shape[1])
    if np.linalg.matrix_rank(gram, hermitian=True) < len(gram):
        raise CallerError(_TOO_FEW.format(f"{len(x)} rows", x.shape[1]) + ", or set alpha above 0")
    coefficients = np.linalg.solve(gram, weighted.T @ (y - y_mean))
    return Fit(coefficients, y_mean - x_mean @ coefficients)


def lasso(x: Array, y: Array, weights: Array, alpha: float) -> Fit:
    """The minimum of ``sum(weights * (y - x b - c)^2) / (2 sum(weights)) + alpha |b|_1``, by coordinate descent.

    Shapes as of ``ridge``. Raises ``CallerError`` where the descent does not end.
    """
    shares = weights / weights.sum()
    x_mean, y_mean = shares @ x, shares @ y
    weighted = (x - x_mean) * shares[:, None]
    gram, left = weighted.T @ (x - x_mean), weighted.T @ (y - y_mean)
    spread = np.sqrt(np.diag(gram))
    ends = TOLERANCE * max(float(np.sqrt(shares @ (y - y_mean) ** 2).max()), np.finfo(float).tiny)
    coefficients = np.zeros_like(left)
    varying = np.flatnonzero(spread > 1e-12)
    for _ in range(MOST_SWEEPS):
        moved = 0.0
        for feature in varying:
            old = coefficients[feature].copy()
            towards = left[feature] + gram[feature, feature] * old
            coefficients[feature] = np.sign(towards) * np.maximum(np.abs(towards) - alpha, 0) / gram[feature, feature]
            change = coefficients[feature] - old
            left -= gram[:, feature, None] * change
            moved = max(moved, float(np.abs(change).max()) * spread[feature])
        if moved <= ends:
            return Fit(coefficients, y_mean - x_mean @ coefficients)
    raise CallerError(f"the lasso did not settle in {MOST_SWEEPS} sweeps: raise alpha, or draw more samples")


def standardised_lasso(x: Array, y: Array, alpha: float) -> Fit:
    """The lasso on features that are scaled to a standard deviation of one, in terms of the features as they are."""
    scale = x.std(0)
    scale[scale == 0] = 1.0
    found = lasso((x - x.mean(0)) / scale, y, np.ones(len(x)), alpha)
    coefficients = found.coefficients / scale[:, None]
    return Fit(coefficients, found.intercepts - x.mean(0) @ coefficients)


class FixedSum:
    """Weighted least squares without an intercept, whose coefficients add up to a given number."""

    def __init__(self, x: Array, weights: Array, n_draws: int) -> None:
        """Raises ``CallerError`` where the rows do not tell the features apart.

        Args:
            x: ``[row feature]``.
            weights: ``[row]``.
            n_draws: How many independent draws the rows are of: equally many rows each, behind one another. 0: the
                rows are all that there are, and nothing is uncertain.
        """
        self._x, self._weights, self._n_draws = x, weights, n_draws
        # the last coefficient is what the others leave of the sum
        self._free = x[:, :-1] - x[:, -1:]
        weighted = self._free * weights[:, None]
        gram = weighted.T @ self._free
        if np.linalg.matrix_rank(gram, hermitian=True) < len(gram) or 0 < n_draws < x.shape[1]:
            raise CallerError(_TOO_FEW.format(f"{n_draws or len(x)} draws of coalitions", x.shape[1]))
        self._solved = np.linalg.solve(gram, weighted.T)

    def fit(self, y: Array, total: float) -> tuple[Array, Array]:
        """The coefficients for outcomes ``[row]``, and their standard errors, both ``[feature]``.

        The errors are robust: the sandwich over draws (White 1980), so they take in that worth is not linear.
        """
        rest = y - self._x[:, -1] * total
        free = self._solved @ rest
        coefficients = np.append(free, total - free.sum())
        if not self._n_draws:
            return coefficients, np.zeros_like(coefficients)
        pulls = (self._solved * (rest - self._free @ free)).reshape(len(free), self._n_draws, -1).sum(-1)
        pulls = np.concatenate([pulls, -pulls.sum(0, keepdims=True)])
        spare = self._n_draws / (self._n_draws - len(free))
        return coefficients, np.sqrt(spare * (pulls**2).sum(1))


def rank_correlations(one: Array, other: Array) -> Array:
    """Spearman's rank correlation of each column, ``[column]``; NaN where one of both is constant, or not there."""
    if len(one) < 2:
        return np.full(one.shape[1], np.nan)
    ranks = [_ranks(values) for values in (one, other)]
    first, second = (values - values.mean(0) for values in ranks)
    sizes = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    with np.errstate(invalid="ignore"):
        return np.where(sizes > 0, (first * second).sum(0) / sizes, np.nan)


_TOO_FEW = "{} are too few to tell {} features apart: raise n_samples"


def _ranks(values: Array) -> Array:
    """The ranks within each column; ties share their mean."""
    found = np.empty(values.shape)
    for column, of in zip(found.T, values.T, strict=True):
        _, inverse, counts = np.unique(of, return_inverse=True, return_counts=True)
        column[:] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return found
