"""What the shape rules are written with: a call, a refusal, and arithmetic on named dimensions.

A size of ``None`` is not known yet. Rules stay permissive about it: they refuse only what is wrong for every size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from interpd.graph.ir import Blob, Dots, Node, Slice
from interpd.graph.promotion import FLOATS
from interpd.graph.run import Lengths
from interpd.graph.schema import Manifest
from interpd.graph.types import Dim, TensorData, TensorType

Value = TensorType | TensorData | Blob | bool | int | float | str | Slice | Dots | tuple[Any, ...] | None
"""What a rule sees of an argument: the type of a value, or the constant itself."""


class Refusal(Exception):
    """A rule says no. The checker turns it into a ``Violation`` with the path of the node."""

    def __init__(self, message: str, where: str = "", code: str = "PORT_MISMATCH") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        """``inputs[0]``, ``params.dim``, or ``""`` for the node."""
        self.code = code


@dataclass(slots=True)
class Scope:
    """What the rules of the model's own operations look things up in."""

    manifest: Manifest
    lengths: Sequence[Lengths]
    """Positions of each prompt, as far as they are known."""
    decoding: bool = False
    """Types are those of a decode step (one position, unknown many keys), not of the prompt's pass."""


@dataclass(slots=True)
class Call:
    """One application of an operation, as its rule sees it."""

    inputs: Sequence[Value]
    params: dict[str, Any]
    """All params, defaults filled in."""
    node: Node | None = None
    """Rules of ``site.*``, ``module.*``, ... and of plugins need more than types: the node itself, ..."""
    scope: "Scope | None" = None
    """... and what it is applied in."""

    def tensor(self, index: int) -> TensorType:
        """The type of input ``index``, which must be a value."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(value, TensorType):
            raise Refusal(f"wants a value, got {value!r}", f"inputs[{index}]")
        return value

    def operand(self, index: int) -> TensorType | bool | int | float:
        """Input ``index``, which may also be a number."""
        value = self.inputs[index]
        if not isinstance(value, TensorType | int | float):
            raise Refusal(f"wants a value or a number, got {value!r}", f"inputs[{index}]")
        return value

    def floating(self, index: int) -> TensorType:
        """The type of input ``index``, which must be a value of a floating dtype."""
        value = self.tensor(index)
        if value.dtype not in FLOATS and value.dtype != "any":
            raise Refusal(f"wants a floating dtype, got {value}: cast it with tensor.to", f"inputs[{index}]")
        return value

    def indices(self, index: int) -> TensorType:
        """The type of input ``index``, which must hold int64 indices."""
        value = self.tensor(index)
        if value.dtype != "int64" and value.dtype not in ("int", "any"):
            raise Refusal(f"wants int64 indices, got {value}", f"inputs[{index}]")
        return value

    def not_bool(self, index: int) -> TensorType:
        """The type of input ``index``, which must hold numbers."""
        value = self.tensor(index)
        if value.dtype == "bool":
            raise Refusal(f"wants numbers, got {value}: cast it with tensor.to", f"inputs[{index}]")
        return value


def axis(value: TensorType, dim: int, where: str = "params.dim", extra: int = 0) -> int:
    """``dim`` as a place in ``value.dims``, counted from the front. ``extra``: places for new dimensions."""
    rank = max(len(value.dims) + extra, 1)
    if not -rank <= dim < rank:
        raise Refusal(f"dim {dim} is out of range for {value}, allowed: {-rank}..{rank - 1}", where, "BAD_PARAM")
    return dim % rank


def axes(value: TensorType, dims: int | tuple[int, ...] | None, where: str = "params.dim") -> tuple[int, ...]:
    """``dims`` as places in ascending order; ``None``: all of them."""
    if dims is None:
        return tuple(range(len(value.dims)))
    if dims == ():
        raise Refusal("is empty; leave it out for all dimensions", where, "BAD_PARAM")
    places = [axis(value, dim, where) for dim in as_ints(dims)]
    if len(set(places)) != len(places):
        raise Refusal(f"{dims} names a dimension of {value} twice", where, "BAD_PARAM")
    return tuple(sorted(places))


def as_ints(numbers: int | tuple[int, ...]) -> tuple[int, ...]:
    """A tuple, of one number too."""
    return (numbers,) if isinstance(numbers, int) else tuple(numbers)


def reduced(value: TensorType, places: Sequence[int], keepdim: bool) -> tuple[Dim, ...]:
    """The dimensions left when those at ``places`` are reduced."""
    if keepdim:
        return tuple(Dim(dim.name, 1) if i in places else dim for i, dim in enumerate(value.dims))
    return tuple(dim for i, dim in enumerate(value.dims) if i not in places)


def size_of(value: TensorType, place: int) -> int | None:
    """The size of a dimension; 1 for the only place of a 0-d value."""
    return value.dims[place].size if value.dims else 1


def n_elements(dims: Sequence[Dim]) -> int | None:
    """How many elements; ``None`` while a size is unknown."""
    sizes = [dim.size for dim in dims]
    return None if None in sizes else prod(sizes)  # type: ignore[arg-type]


def replaced(dims: Sequence[Dim], place: int, *new: Dim) -> tuple[Dim, ...]:
    """``dims`` with the one at ``place`` replaced by ``new``."""
    return (*dims[:place], *new, *dims[place + 1 :])


def same_size(a: int | None, b: int | None) -> bool:
    """Whether two sizes may be equal."""
    return a is None or b is None or a == b


def joined(a: Dim, b: Dim) -> Dim | None:
    """Two dimensions broadcast against each other; ``None`` when they cannot."""
    if a is b or a == b:
        return a
    if a.size == b.size:
        return a if a.name else b
    if b.size == 1:
        return a
    if a.size == 1:
        return b
    if a.size is None:
        return Dim(b.name or a.name, b.size)
    if b.size is None:
        return Dim(a.name or b.name, a.size)
    return None


def broadcast(values: Sequence[Any], where: str = "") -> tuple[Dim, ...]:
    """The dimensions of an elementwise operation; numbers among ``values`` do not count."""
    dims: tuple[Dim, ...] | None = None
    first: TensorType | None = None
    for value in values:
        if not isinstance(value, TensorType):
            continue
        if dims is None or first is None:
            dims, first = value.dims, value
        elif value.dims is not dims:
            dims = broadcast_pair(dims, value, first, where)
    return dims or ()


def broadcast_pair(dims: tuple[Dim, ...], value: TensorType, first: TensorType, where: str) -> tuple[Dim, ...]:
    """``dims``, gathered so far from ``first`` on, against those of one more value."""
    long, short = (dims, value.dims) if len(dims) >= len(value.dims) else (value.dims, dims)
    lead = len(long) - len(short)
    out = list(long[:lead])
    for a, b in zip(long[lead:], short, strict=True):
        dim = joined(a, b)
        if dim is None:
            raise Refusal(f"{first} and {value} do not broadcast: sizes {a} and {b} differ", where)
        out.append(dim)
    return tuple(out)
