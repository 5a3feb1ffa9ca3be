"""How alike two tables of scores are, ``[feature step]`` with NaN where a feature comes behind a step."""

import numpy as np


def relative_change(scores: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The length of the difference over the length of ``scores``, for each step; NaN where those are zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.nansum((changed - scores) ** 2, 0)) / _some(np.sqrt(np.nansum(scores**2, 0)))


def rank_correlation(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's correlation for each step; NaN where one of the two is constant."""
    found = [
        _spearman(one[~np.isnan(one)], other[~np.isnan(one)]) for one, other in zip(scores.T, others.T, strict=True)
    ]
    return np.array(found)


def _some(lengths: np.ndarray) -> np.ndarray:
    return np.where(lengths > 0, lengths, np.nan)


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if len(one) < 2 or (one == one[0]).all() or (other == other[0]).all():
        return np.nan
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[which]
