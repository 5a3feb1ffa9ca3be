"""Distances between distributions, as in ``torch.nn.functional``."""

from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from interpd.ops.indexing import check_indices

_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """``target * (log(target) - input)``, where ``input`` holds logarithms."""
    if reduction == "batchmean":
        # functional.kl_div does the same, and warns about `mean` on every call
        return torch.kl_div(input, target, _REDUCTIONS["sum"], log_target=log_target) / input.shape[0]
    return torch.kl_div(input, target, _REDUCTIONS[reduction], log_target=log_target)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Minus the log-probability of the target classes."""
    if not target.is_floating_point():
        check_indices(target[target != ignore_index], input.shape[min(1, input.dim() - 1)])
    return functional.cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=float(label_smoothing)
    )


LOSSES = MappingProxyType({"torch.kl_div": kl_div, "torch.cross_entropy": cross_entropy})
"""Implementations by operation name."""
