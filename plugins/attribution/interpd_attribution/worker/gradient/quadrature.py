"""Rules that turn an integral from 0 to 1 into a sum."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from interpd.sdk import CallerError

MOST_STEPS = 1000
"""More would cost hours, and the places of Gauss and Legendre alone minutes."""

Rule = Literal["gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]


def _gausslegendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    places, weights = np.polynomial.legendre.leggauss(n)
    return (1 + places) / 2, weights / 2


def _trapezoid(n: int) -> tuple[np.ndarray, np.ndarray]:
    if n < 2:
        raise CallerError(f"riemann_trapezoid takes 2 steps or more, got {n}")
    weights = np.full(n, 1 / (n - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, n), weights


_RULES: Mapping[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "gausslegendre": _gausslegendre,
    "riemann_left": lambda n: (np.arange(n) / n, np.full(n, 1 / n)),
    "riemann_right": lambda n: ((np.arange(n) + 1) / n, np.full(n, 1 / n)),
    "riemann_middle": lambda n: ((np.arange(n) + 0.5) / n, np.full(n, 1 / n)),
    "riemann_trapezoid": _trapezoid,
}


def quadrature(rule: str, n_steps: int) -> tuple[Tensor, Tensor]:
    """Places between 0 and 1 and their weights, which add up to 1; float32 each.

    Captum's trapezoid, which Inseq takes, has weights that add up to ``1 - 1 / n_steps``.
    """
    if not 1 <= n_steps <= MOST_STEPS:
        raise CallerError(f"n_steps is {n_steps}, expected 1 to {MOST_STEPS}")
    places, weights = _RULES[rule](n_steps)
    return torch.from_numpy(places).float(), torch.from_numpy(weights).float()
