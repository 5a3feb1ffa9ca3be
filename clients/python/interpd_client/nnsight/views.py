"""Views: tensors that look at a part of another one's memory, as a way to read that part and a way to put it back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from interpd.graph.ir import Arg, Ref
from interpd_client.nnsight.errors import CannotRecord


class Nodes(Protocol):
    """Who appends operations to the graph."""

    def node(self, op: str, *args: Arg, **params: Arg) -> Ref:
        """The output of a new operation."""
        ...

    def index(self, index: object) -> Arg:
        """What stands in ``x[...]``, as the graph writes it."""
        ...


@dataclass(frozen=True, slots=True)
class Padding:
    """Positions that nnsight pads a short prompt with on the left, which the service does not compute."""

    dim: int
    count: int


@dataclass(frozen=True, slots=True)
class Part:
    """A value of the graph that stands for a tensor of the block."""

    ref: Ref
    padding: Padding | None = None
    """Where the tensor has padded positions that the value lacks."""

    def whole(self) -> Ref:
        """The value, which must lack nothing. Raises ``CannotRecord``."""
        if self.padding is not None:
            raise padded(self.padding)
        return self.ref


def padded(padding: Padding) -> CannotRecord:
    """The error for a use of padded positions."""
    return CannotRecord(
        f"the prompts of this trace differ in length, so nnsight would put {padding.count} padding positions before "
        f"this one (dimension {padding.dim}), whose numbers are of no meaning and are not computed on the service; "
        f"choose positions that are no padding, counted from the end: `h[:, -1]`, `h[:, -3:]`"
    )


def fitted(nodes: Nodes, value: Part, padding: Padding | None) -> Part:
    """``value`` without the positions that count as padding. Raises ``CannotRecord`` where it lacks others."""
    if value.padding == padding:
        return value
    if value.padding is not None or padding is None:
        raise padded(value.padding or Padding(0, 0))
    index = (*[slice(None)] * padding.dim, slice(padding.count, None))
    return Part(nodes.node("tensor.getitem", value.ref, nodes.index(index)), padding)


@dataclass(frozen=True, slots=True)
class Index:
    """``x[index]`` of integers, slices, ``None`` and ``...``."""

    index: tuple[Any, ...]
    shape: tuple[int, ...]
    """Of ``x``."""

    def get(self, nodes: Nodes, part: Part) -> Part:
        """The part of a value that is looked at."""
        index, padding = self._placed(part.padding)
        return Part(nodes.node("tensor.getitem", part.ref, nodes.index(index)), padding)

    def put(self, nodes: Nodes, whole: Part, value: Part) -> Part:
        """``whole`` with that part replaced."""
        index, left = self._placed(whole.padding)
        value = fitted(nodes, value, left)
        return replace(whole, ref=nodes.node("tensor.setitem", whole.ref, nodes.index(index), value.ref))

    def of_rows(self) -> tuple[range, bool, tuple[Any, ...]] | None:
        """(the chosen places of dimension 0, whether it stays a dimension, the index of the other dimensions).

        ``None`` where the outcome does not begin with dimension 0.
        """
        spread = list(_spread(self.index, len(self.shape)))
        if not spread or spread[0] is None:
            return None
        head, rows = spread[0], range(self.shape[0])
        if isinstance(head, int):
            return rows[head : head + 1 or None], False, tuple(spread[1:])
        return rows[head], True, tuple(spread[1:])

    def _placed(self, padding: Padding | None) -> tuple[tuple[Any, ...], Padding | None]:
        """The index among the positions that there are, and the padding of what it picks."""
        if padding is None:
            return self.index, None
        at, out_dim, left, placed = 0, 0, None, []
        for item in _spread(self.index, len(self.shape)):
            if item is not None and at == padding.dim:
                item, n_left = _among_present(item, self.shape[at], padding)
                left = Padding(out_dim, n_left) if n_left else None
            placed.append(item)
            at += item is not None
            out_dim += not isinstance(item, int)
        return tuple(placed), left


def _spread(index: Sequence[Any], n_dims: int) -> Iterator[Any]:
    """The index with ``...`` and what is left out written as full slices."""
    n_used = sum(item is not None and item is not Ellipsis for item in index)
    full = [slice(None)] * (n_dims - n_used)
    if not any(item is Ellipsis for item in index):
        index = [*index, Ellipsis]
    for item in index:
        if item is Ellipsis:
            yield from full
        else:
            yield item


def _among_present(item: int | slice, size: int, padding: Padding) -> tuple[int | slice, int]:
    """An index of one dimension among the positions that are no padding, and how much padding it still picks."""
    if isinstance(item, int):
        place = range(size)[item] - padding.count
        if place < 0:
            raise padded(padding)
        return place, 0
    places = range(size)[item]
    n_left = sum(place < padding.count for place in places)
    if n_left and (places.step != 1 or n_left == len(places)):
        raise padded(padding)
    present = places[n_left:]
    if not present:
        return slice(0, 0), 0
    return slice(present[0] - padding.count, present[-1] + 1 - padding.count, present.step), n_left


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same elements in another shape."""

    shape: tuple[int, ...]
    """Of what it is made of."""
    new_shape: tuple[int, ...]

    def get(self, nodes: Nodes, part: Part) -> Part:
        """The value in its new shape."""
        return Part(nodes.node("torch.reshape", part.whole(), shape=self.new_shape))

    def put(self, nodes: Nodes, whole: Part, value: Part) -> Part:
        """A value of the new shape in the old one."""
        return Part(nodes.node("torch.reshape", value.whole(), shape=self.shape))


@dataclass(frozen=True, slots=True)
class Permute:
    """Dimensions in another order."""

    dims: tuple[int, ...]

    def get(self, nodes: Nodes, part: Part) -> Part:
        """The value with its dimensions in the new order."""
        return Part(nodes.node("torch.permute", part.ref, dims=self.dims), self._moved(part.padding))

    def put(self, nodes: Nodes, whole: Part, value: Part) -> Part:
        """A value in the new order with its dimensions in the old one."""
        value = fitted(nodes, value, self._moved(whole.padding))
        back = tuple(self.dims.index(dim) for dim in range(len(self.dims)))
        return Part(nodes.node("torch.permute", value.ref, dims=back), whole.padding)

    def _moved(self, padding: Padding | None) -> Padding | None:
        return None if padding is None else replace(padding, dim=self.dims.index(padding.dim))


@dataclass(frozen=True, slots=True)
class Expand:
    """Dimensions of size 1 repeated."""

    size: tuple[int, ...]

    def get(self, nodes: Nodes, part: Part) -> Part:
        """The value in its larger shape."""
        return Part(nodes.node("torch.broadcast_to", part.whole(), size=self.size))

    def put(self, nodes: Nodes, whole: Part, value: Part) -> Part:
        """Never: many elements of such a view are one."""
        raise CannotRecord("torch cannot change an expanded tensor in place: `.clone()` it first")


@dataclass(frozen=True, slots=True)
class Diagonal:
    """A diagonal of a matrix."""

    offset: int
    dims: tuple[int, int]

    def get(self, nodes: Nodes, part: Part) -> Part:
        """The diagonal."""
        dim1, dim2 = self.dims
        return Part(nodes.node("torch.diagonal", part.whole(), offset=self.offset, dim1=dim1, dim2=dim2))

    def put(self, nodes: Nodes, whole: Part, value: Part) -> Part:
        """Never: a graph has no operation for it."""
        raise CannotRecord("a graph cannot write a diagonal: build the matrix with torch.where and torch.eye")


@dataclass(frozen=True, slots=True)
class Detached:
    """The same memory, through which no gradient flows."""

    def get(self, nodes: Nodes, part: Part) -> Part:
        """The value as a constant."""
        return replace(part, ref=nodes.node("tensor.detach", part.ref))

    def put(self, nodes: Nodes, whole: Part, value: Part) -> Part:
        """The value itself."""
        return value


Step = Index | Reshape | Permute | Expand | Diagonal | Detached
Steps = tuple[Step, ...]
"""A view of a view: each step looks at what the step before it shows."""


def selects_all(index: tuple[Any, ...], shape: Sequence[int]) -> bool:
    """Whether ``x[index]`` is all of ``x``, in its own shape."""
    spread = list(_spread(index, len(shape)))
    return len(spread) == len(shape) and all(
        isinstance(item, slice) and range(size)[item] == range(size) for item, size in zip(spread, shape, strict=True)
    )


def shares_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one memory."""
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def without_data(shape: Sequence[int], dtype: torch.dtype, order: Sequence[int] | None = None) -> Tensor:
    """A tensor on the meta device whose dimensions lie in memory in ``order``, the outermost first."""
    if order is None or list(order) == sorted(order):
        return torch.empty(tuple(shape), dtype=dtype, device="meta")
    packed = torch.empty([shape[dim] for dim in order], dtype=dtype, device="meta")
    return packed.permute([list(order).index(dim) for dim in range(len(order))])
