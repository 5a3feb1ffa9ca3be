"""From a vector per position to a number."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["vnorm", "sum", "mean", "absmax", "max", "min", "prod", "l1"]


def _absmax(values: Tensor) -> Tensor:
    return values.gather(-1, values.abs().argmax(-1, keepdim=True))[..., 0]


REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "vnorm": lambda values: torch.linalg.vector_norm(values, dim=-1),
    "sum": lambda values: values.sum(-1),
    "mean": lambda values: values.mean(-1),
    "absmax": _absmax,
    "max": lambda values: values.amax(-1),
    "min": lambda values: values.amin(-1),
    "prod": lambda values: values.prod(-1),
    "l1": lambda values: values.abs().sum(-1),
}
"""Over the last dimension, by name; ``absmax`` keeps the sign."""


def reduced(values: Tensor, how: str) -> Tensor:
    """``values`` with the last dimension reduced."""
    return REDUCTIONS[how](values)
