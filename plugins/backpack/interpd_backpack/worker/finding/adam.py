"""Adam on one table of numbers, with a state that can be written down, and a cosine schedule."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BETAS = (0.9, 0.995)
"""Those of Hewitt et al. 2024."""
EPSILON = 1e-8


@dataclass(frozen=True)
class Moments:
    """What Adam remembers."""

    first: Tensor
    second: Tensor
    n_steps: int = 0

    @classmethod
    def zero(cls, like: Tensor) -> "Moments":
        """Of a table that no step was taken in."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))


def step(value: Tensor, gradient: Tensor, moments: Moments, learning_rate: float) -> tuple[Tensor, Moments]:
    """(the table after a step, what is remembered): Kingma & Ba 2015, algorithm 1."""
    n_steps = moments.n_steps + 1
    first = BETAS[0] * moments.first + (1 - BETAS[0]) * gradient
    second = BETAS[1] * moments.second + (1 - BETAS[1]) * gradient * gradient
    size = (second / (1 - BETAS[1] ** n_steps)).sqrt() + EPSILON
    return value - learning_rate * (first / (1 - BETAS[0] ** n_steps)) / size, Moments(first, second, n_steps)


def cosine(learning_rate: float, epoch: int, n_epochs: int) -> float:
    """The rate of an epoch, counted from 0: falls from ``learning_rate`` towards 0, which the epoch behind the last
    would have."""
    return learning_rate * (1 + math.cos(math.pi * epoch / n_epochs)) / 2
