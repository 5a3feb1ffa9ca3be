"""Indexing, rearranging and joining.

Indices that come from data are checked against their bounds here: on a GPU an index out of range ends the process's
CUDA context, and with it everybody else's work.
"""

from types import EllipsisType, MappingProxyType
from typing import Any

import torch
from torch import Tensor

from interpd.ops.reductions import dtype_named

Index = int | slice | EllipsisType | Tensor | tuple[Any, ...] | None


def getitem(x: Tensor, index: Index) -> Tensor:
    """``x[index]``."""
    return x[_ready(x, index)]


def setitem(x: Tensor, index: Index, value: Tensor | bool | int | float) -> Tensor:
    """A copy of ``x`` with ``x[index]`` replaced."""
    copy = x.clone()
    copy[_ready(x, index)] = value.to(x.dtype) if isinstance(value, Tensor) else value
    return copy


def _ready(x: Tensor, index: Index) -> Any:
    """The index as torch takes it, with lists as tensors and values checked."""
    parts = index if isinstance(index, tuple) else (index,)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    out: list[Any] = []
    place = 0
    for part in parts:
        if part is Ellipsis:
            place += x.dim() - used
        elif part is not None:
            part = torch.tensor(part, dtype=torch.int64, device=x.device) if isinstance(part, tuple) else part
            if isinstance(part, Tensor) and part.dtype != torch.bool:
                check_indices(part, x.shape[place], least=-x.shape[place])
            place += 1
        out.append(part)
    return tuple(out)


def check_indices(index: Tensor, size: int, least: int = 0) -> None:
    """Raises ``IndexError`` unless every index is in ``least``..``size - 1``."""
    if index.numel() == 0:
        return
    lowest, highest = torch.aminmax(index)
    if lowest < least or highest >= size:
        wrong = int(lowest if lowest < least else highest)
        raise IndexError(f"index {wrong} is out of range, allowed: {least}..{size - 1}")


def gather(input: Tensor, index: Tensor, *, dim: int) -> Tensor:
    """Elements picked along ``dim``."""
    check_indices(index, _size(input, dim))
    return torch.gather(input, dim, index)


def _size(input: Tensor, dim: int) -> int:
    return input.shape[dim] if input.dim() else 1


def take_along_dim(input: Tensor, indices: Tensor, *, dim: int) -> Tensor:
    """Elements picked along ``dim``, broadcast over the others."""
    check_indices(indices, _size(input, dim))
    return torch.take_along_dim(input, indices, dim=dim)


def index_select(input: Tensor, index: Tensor, *, dim: int) -> Tensor:
    """Slices picked along ``dim``."""
    check_indices(index, _size(input, dim))
    return torch.index_select(input, dim, index)


def scatter(input: Tensor, index: Tensor, src: Tensor | bool | int | float, *, dim: int) -> Tensor:
    """A copy of ``input`` with ``src`` put at ``index``."""
    check_indices(index, _size(input, dim))
    if isinstance(src, Tensor):
        return torch.scatter(input, dim, index, src)
    return torch.scatter(input, dim, index, value=src)


def scatter_add(input: Tensor, index: Tensor, src: Tensor, *, dim: int) -> Tensor:
    """A copy of ``input`` with ``src`` added at ``index``."""
    check_indices(index, _size(input, dim))
    return torch.scatter_add(input, dim, index, src)


def one_hot(input: Tensor, *, num_classes: int) -> Tensor:
    """int64 rows with a 1 at each index."""
    check_indices(input, num_classes)
    return torch.nn.functional.one_hot(input, num_classes)


def reshape(input: Tensor, *, shape: int | tuple[int, ...]) -> Tensor:
    """The same elements in another shape."""
    return torch.reshape(input, _many(shape))


def unflatten(input: Tensor, *, dim: int, sizes: int | tuple[int, ...]) -> Tensor:
    """One dimension as several."""
    return torch.unflatten(input, dim, _many(sizes))


def permute(input: Tensor, *, dims: int | tuple[int, ...]) -> Tensor:
    """Dimensions in another order."""
    return torch.permute(input, _many(dims))


def broadcast_to(input: Tensor, *, size: int | tuple[int, ...]) -> Tensor:
    """Repeated along dimensions of size 1."""
    return torch.broadcast_to(input, _many(size))


def flip(input: Tensor, *, dims: int | tuple[int, ...]) -> Tensor:
    """Reversed along dimensions."""
    return torch.flip(input, _many(dims))


def movedim(input: Tensor, *, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Tensor:
    """Dimensions moved; one of them may be given as a number and the other as a tuple."""
    return torch.movedim(input, _many(source), _many(destination))


def _many(numbers: int | tuple[int, ...]) -> tuple[int, ...]:
    return (numbers,) if isinstance(numbers, int) else numbers


def cast(x: Tensor, *, dtype: str) -> Tensor:
    """``x`` in another dtype."""
    return x.to(dtype_named(dtype))


_NAMED_AS_IN_TORCH = (
    *("cat", "stack", "flatten", "squeeze", "unsqueeze", "transpose", "repeat_interleave", "narrow", "roll"),
    *("diagonal", "tril", "triu"),
)

_OWN = (
    gather,
    take_along_dim,
    index_select,
    scatter,
    scatter_add,
    one_hot,
    reshape,
    unflatten,
    permute,
    broadcast_to,
    flip,
    movedim,
)

INDEXING = MappingProxyType(
    {
        **{f"torch.{name}": getattr(torch, name) for name in _NAMED_AS_IN_TORCH},
        **{f"torch.{function.__name__}": function for function in _OWN},
        "tensor.getitem": getitem,
        "tensor.setitem": setitem,
        "tensor.to": cast,
        "tensor.detach": Tensor.detach,
    }
)
"""Implementations by operation name."""
