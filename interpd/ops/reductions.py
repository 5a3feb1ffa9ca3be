"""Reductions, normalisations and products. They take params as in the schemas: dtypes by name, one dim or several."""

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Dims = int | tuple[int, ...] | None


def dtype_named(name: str | None) -> torch.dtype | None:
    """The dtype that torch calls ``name``."""
    return None if name is None else getattr(torch, name)


def total(input: Tensor, *, dim: Dims = None, keepdim: bool = False, dtype: str | None = None) -> Tensor:
    """Sums."""
    return torch.sum(input, dim=dim, keepdim=keepdim, dtype=dtype_named(dtype))


def product(input: Tensor, *, dim: int | None = None, keepdim: bool = False, dtype: str | None = None) -> Tensor:
    """Products."""
    if dim is not None:
        return torch.prod(input, dim=dim, keepdim=keepdim, dtype=dtype_named(dtype))
    out = torch.prod(input, dtype=dtype_named(dtype))
    return out.reshape([1] * input.dim()) if keepdim else out


def mean(input: Tensor, *, dim: Dims = None, keepdim: bool = False, dtype: str | None = None) -> Tensor:
    """Means."""
    return torch.mean(input, dim=dim, keepdim=keepdim, dtype=dtype_named(dtype))


def every(input: Tensor, *, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are nonzero."""
    return torch.all(input, dim=_all_dims(input, dim), keepdim=keepdim)


def some(input: Tensor, *, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether any element is nonzero."""
    return torch.any(input, dim=_all_dims(input, dim), keepdim=keepdim)


def greatest(input: Tensor, *, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Greatest elements; gradients are shared among equals."""
    return torch.amax(input, dim=_all_dims(input, dim), keepdim=keepdim)


def least(input: Tensor, *, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Least elements; gradients are shared among equals."""
    return torch.amin(input, dim=_all_dims(input, dim), keepdim=keepdim)


def _all_dims(input: Tensor, dim: Dims) -> Dims:
    return tuple(range(input.dim())) if dim is None else dim


def quantile(input: Tensor, *, q: float, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Quantiles, interpolated linearly."""
    return torch.quantile(input, float(q), dim=dim, keepdim=keepdim)


def sort(input: Tensor, *, dim: int = -1, descending: bool = False, stable: bool = False) -> tuple[Tensor, Tensor]:
    """Sorted elements and where they were."""
    values, indices = torch.sort(input, dim=dim, descending=descending, stable=stable)
    return values, indices


def argsort(input: Tensor, *, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """Where the sorted elements were."""
    return torch.argsort(input, dim=dim, descending=descending, stable=stable)


def cumsum(input: Tensor, *, dim: int, dtype: str | None = None) -> Tensor:
    """Running sums."""
    return torch.cumsum(input, dim=dim, dtype=dtype_named(dtype))


def cumprod(input: Tensor, *, dim: int, dtype: str | None = None) -> Tensor:
    """Running products."""
    return torch.cumprod(input, dim=dim, dtype=dtype_named(dtype))


def softmax(input: Tensor, *, dim: int, dtype: str | None = None) -> Tensor:
    """Exponentials that sum to 1 along ``dim``."""
    return torch.softmax(input, dim=dim, dtype=dtype_named(dtype))


def log_softmax(input: Tensor, *, dim: int, dtype: str | None = None) -> Tensor:
    """Logarithms of the softmax."""
    return torch.log_softmax(input, dim=dim, dtype=dtype_named(dtype))


def layer_norm(
    input: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    normalized_shape: int | tuple[int, ...],
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions."""
    return functional.layer_norm(input, _shape(normalized_shape), weight, bias, eps)


def rms_norm(
    input: Tensor,
    weight: Tensor | None = None,
    *,
    normalized_shape: int | tuple[int, ...],
    eps: float | None = None,
) -> Tensor:
    """Mean square 1 over the last dimensions."""
    return functional.rms_norm(input, _shape(normalized_shape), weight, eps)


def _shape(sizes: int | tuple[int, ...]) -> tuple[int, ...]:
    return (sizes,) if isinstance(sizes, int) else sizes


def einsum(operands: tuple[Tensor, ...], *, equation: str) -> Tensor:
    """Sums of products, as the equation says."""
    return torch.einsum(equation, *operands)


_NAMED_AS_IN_TORCH = (
    *("std", "var", "logsumexp", "count_nonzero", "argmax", "argmin", "max", "min", "median", "kthvalue", "topk"),
    *("matmul", "bmm", "dot", "outer"),
)

REDUCTIONS: "MappingProxyType[str, Any]" = MappingProxyType(
    {
        **{f"torch.{name}": getattr(torch, name) for name in _NAMED_AS_IN_TORCH},
        "torch.sum": total,
        "torch.prod": product,
        "torch.mean": mean,
        "torch.any": some,
        "torch.all": every,
        "torch.amax": greatest,
        "torch.amin": least,
        "torch.quantile": quantile,
        "torch.sort": sort,
        "torch.argsort": argsort,
        "torch.cumsum": cumsum,
        "torch.cumprod": cumprod,
        "torch.softmax": softmax,
        "torch.log_softmax": log_softmax,
        "torch.linalg.vector_norm": torch.linalg.vector_norm,
        "torch.normalize": functional.normalize,
        "torch.layer_norm": layer_norm,
        "torch.rms_norm": rms_norm,
        "torch.cosine_similarity": functional.cosine_similarity,
        "torch.linear": functional.linear,
        "torch.einsum": einsum,
    }
)
"""Implementations by operation name."""
