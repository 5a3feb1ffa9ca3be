"""Correlations of two vectors, in float64; NaN where one of them is constant or there are fewer than two numbers."""

import torch
from torch import Tensor


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """The linear correlation."""
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return torch.tensor(torch.nan, dtype=torch.float64)
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    return (x @ y) / (x.norm() * y.norm())


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """The correlation of ranks; equal numbers share the mean of theirs."""
    return pearson(ranks(x), ranks(y))


def kendall(x: Tensor, y: Tensor) -> Tensor:
    """Kendall's tau-b: pairs in the same order less pairs in the opposite one; ties count for neither."""
    one, other = _orders(x), _orders(y)
    size = (one.square().sum() * other.square().sum()).sqrt()
    return (one * other).sum() / size if size > 0 else torch.tensor(torch.nan, dtype=torch.float64)


def ranks(x: Tensor) -> Tensor:
    """The rank of each number, from 0 for the smallest."""
    _, which, counts = torch.unique(x, return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    return (first + (counts - 1) / 2).double()[which]


def area(y: Tensor, x: Tensor) -> Tensor:
    """The area under a curve by the trapezoidal rule."""
    return torch.trapezoid(y.double(), x.double())


def _orders(x: Tensor) -> Tensor:
    return torch.sign(x[:, None] - x).double()
