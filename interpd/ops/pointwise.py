"""Elementwise operations. Python's operators stand where a number may come first, which torch's functions refuse."""

import operator
from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

Number = bool | int | float


def where(condition: Tensor, input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """``input`` where the condition holds, else ``other``."""
    return torch.where(condition, input, other)


def masked_fill(input: Tensor, mask: Tensor, *, value: Number) -> Tensor:
    """``input`` with ``value`` where the mask holds."""
    return torch.masked_fill(input, mask, value)


def clamp(input: Tensor, *, min: Number | None = None, max: Number | None = None) -> Tensor:
    """Each element limited to ``min``..``max``."""
    return torch.clamp(input, min=min, max=max)


def floor_divide(input: Tensor | Number, other: Tensor | Number) -> Tensor:
    """``input // other``, a constant for gradients: torch would refuse the whole graph that it stands in."""
    parts = [part.detach() if isinstance(part, Tensor) else part for part in (input, other)]
    return operator.floordiv(*parts)


def square(input: Tensor) -> Tensor:
    """``input ** 2``."""
    return torch.square(input)


_NAMED_AS_IN_TORCH = (
    *("maximum", "minimum", "logical_and", "logical_or", "logical_xor", "logical_not", "isnan", "isinf", "isfinite"),
    *("neg", "abs", "sign", "floor", "ceil", "round", "trunc", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt"),
    *("reciprocal", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "square", "nan_to_num", "lerp"),
)

_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "floor_divide": floor_divide,
    "remainder": operator.mod,
    "pow": operator.pow,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}

POINTWISE = MappingProxyType(
    {
        **{f"torch.{name}": getattr(torch, name) for name in _NAMED_AS_IN_TORCH},
        **{f"torch.{name}": function for name, function in _OPERATORS.items()},
        "torch.silu": functional.silu,
        "torch.gelu": functional.gelu,
        "torch.softplus": functional.softplus,
        "torch.clamp": clamp,
        "torch.where": where,
        "torch.masked_fill": masked_fill,
    }
)
"""Implementations by operation name."""
