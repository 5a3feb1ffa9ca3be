"""Operations that make values from constants alone. Their keyword ``device`` is filled in by the interpreter.

Noise comes from a generator of its own on the CPU, so that a seed means the same numbers on every device and whoever
shares the pass.
"""

from types import MappingProxyType

import torch
from torch import Tensor

from interpd.ops.reductions import dtype_named

Sizes = int | tuple[int, ...]
Device = torch.device | str | None


def _shape(size: Sizes) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else size


def zeros(*, size: Sizes, dtype: str = "float32", device: Device = None) -> Tensor:
    """Zeros."""
    return torch.zeros(_shape(size), dtype=dtype_named(dtype), device=device)


def ones(*, size: Sizes, dtype: str = "float32", device: Device = None) -> Tensor:
    """Ones."""
    return torch.ones(_shape(size), dtype=dtype_named(dtype), device=device)


def full(*, size: Sizes, fill_value: float, dtype: str = "float32", device: Device = None) -> Tensor:
    """One number everywhere."""
    return torch.full(_shape(size), fill_value, dtype=dtype_named(dtype), device=device)


def eye(*, n: int, m: int | None = None, dtype: str = "float32", device: Device = None) -> Tensor:
    """An identity matrix."""
    return torch.eye(n, n if m is None else m, dtype=dtype_named(dtype), device=device)


def arange(*, start: float, end: float, step: float = 1, dtype: str | None = None, device: Device = None) -> Tensor:
    """Numbers from start to before end."""
    return torch.arange(start, end, step, dtype=dtype_named(dtype), device=device)


def linspace(*, start: float, end: float, steps: int, dtype: str = "float32", device: Device = None) -> Tensor:
    """Evenly spaced numbers, ends included."""
    return torch.linspace(start, end, steps, dtype=dtype_named(dtype), device=device)


def randn(*, size: Sizes, seed: int, dtype: str = "float32", device: Device = None) -> Tensor:
    """Normal noise, drawn in float32."""
    noise = torch.randn(_shape(size), generator=torch.Generator().manual_seed(seed))
    return noise.to(device=device, dtype=dtype_named(dtype))


def rand(*, size: Sizes, seed: int, dtype: str = "float32", device: Device = None) -> Tensor:
    """Noise between 0 and 1, drawn in float32."""
    noise = torch.rand(_shape(size), generator=torch.Generator().manual_seed(seed))
    return noise.to(device=device, dtype=dtype_named(dtype))


def zeros_like(input: Tensor, *, dtype: str | None = None) -> Tensor:
    """Zeros in the shape of ``input``."""
    return torch.zeros_like(input, dtype=dtype_named(dtype))


def ones_like(input: Tensor, *, dtype: str | None = None) -> Tensor:
    """Ones in the shape of ``input``."""
    return torch.ones_like(input, dtype=dtype_named(dtype))


def full_like(input: Tensor, *, fill_value: float, dtype: str | None = None) -> Tensor:
    """One number in the shape of ``input``."""
    return torch.full_like(input, fill_value, dtype=dtype_named(dtype))


_ON_DEVICE = (zeros, ones, full, eye, arange, linspace, randn, rand)

NEEDS_DEVICE = frozenset(f"torch.{function.__name__}" for function in _ON_DEVICE)
"""Operations to which the interpreter passes ``device``, because no input tells them."""

MAKERS = MappingProxyType(
    {f"torch.{function.__name__}": function for function in (*_ON_DEVICE, zeros_like, ones_like, full_like)}
)
"""Implementations by operation name."""
