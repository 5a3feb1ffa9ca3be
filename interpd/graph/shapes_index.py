"""Types of indexing: ``x[...]``, ``x[...] = value``, gather, scatter and their kin.

What may stand in an index: integers, slices, ``...``, ``None``, int64 values, and tuples of integers (a list index).
Ints select before value indices act, as in torch (numpy differs): ``x[0, :, i]`` keeps the order of the dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from interpd.graph.dims import Call, Refusal, axis, broadcast, joined, replaced, same_size
from interpd.graph.ir import Dots, Slice
from interpd.graph.promotion import category
from interpd.graph.types import Dim, TensorType


def getitem(call: Call) -> TensorType:
    """The indexed part."""
    value = call.tensor(0)
    return TensorType(value.dtype, indexed(value, call.inputs[1]))


def setitem(call: Call) -> TensorType:
    """The type of the value itself; what is put in fits the indexed part and loses nothing by its dtype."""
    value, index, new = call.tensor(0), call.inputs[1], call.operand(2)
    if isinstance(index, TensorType) and index.dtype == "bool":
        part = _masked(value, index, new)
    else:
        part = TensorType(value.dtype, indexed(value, index))
    given = (
        category(new.dtype) if isinstance(new, TensorType) else 2 if isinstance(new, float) else int(type(new) is int)
    )
    if given > category(value.dtype) and value.dtype != "any":
        raise Refusal(f"wants {value.dtype}, got {new}: cast it with tensor.to", "inputs[2]")
    if isinstance(new, TensorType) and not fits_into(new, part):
        raise Refusal(f"wants {part} or what broadcasts to it, got {new}", "inputs[2]")
    return value


def fits_into(new: TensorType, part: TensorType) -> bool:
    """Whether ``new`` broadcasts to the shape of ``part``; leading dimensions of size 1 do not count."""
    dims = new.dims
    while len(dims) > len(part.dims) and dims[0].size in (1, None):
        dims = dims[1:]
    if len(dims) > len(part.dims):
        return False
    tail = part.dims[len(part.dims) - len(dims) :]
    return all(a.size in (1, None) or b.size in (a.size, None) for a, b in zip(dims, tail, strict=True))


def _masked(value: TensorType, mask: TensorType, new: object) -> TensorType:
    lead = value.dims[: len(mask.dims)]
    if len(mask.dims) > len(value.dims) or not all(
        same_size(a.size, b.size) for a, b in zip(lead, mask.dims, strict=True)
    ):
        raise Refusal(f"mask {mask} does not cover {value}", "inputs[1]")
    return TensorType(value.dtype)


@dataclass(slots=True)
class _Walk:
    """Where an index stands: dimensions made so far and value indices seen."""

    value: TensorType
    out: list[Dim | None]
    """``None`` where the broadcast value indices may go."""
    place: int = 0
    picks: list[TensorType] | None = None

    def current(self) -> Dim:
        """The dimension that the next index is for."""
        return self.value.dims[self.place]


def indexed(value: TensorType, index: object) -> tuple[Dim, ...]:
    """The dimensions of ``value[index]``."""
    parts = _spread(value, index if isinstance(index, tuple) else (index,))
    walk = _Walk(value, [])
    for number, part in enumerate(parts):
        _apply(walk, part, f"inputs[1][{number}]" if isinstance(index, tuple) else "inputs[1]")
    out = [*walk.out, *value.dims[walk.place :]]
    if not walk.picks:
        return tuple(dim for dim in out if dim is not None)
    picked = broadcast(walk.picks, "inputs[1]")
    marks = [i for i, dim in enumerate(out) if dim is None]
    together = marks[-1] - marks[0] == len(marks) - 1
    at = marks[0] if together else 0
    before = [dim for dim in out[:at] if dim is not None]
    after = [dim for dim in out[at:] if dim is not None]
    return (*before, *picked, *after)


def _spread(value: TensorType, index: Sequence[object]) -> list[object]:
    """The index with ``...`` written out as full slices."""
    dots = [i for i, part in enumerate(index) if isinstance(part, Dots)]
    if len(dots) > 1:
        raise Refusal("has '...' twice", "inputs[1]")
    used = sum(part is not None and not isinstance(part, Dots) for part in index)
    if used > len(value.dims):
        raise Refusal(f"has {used} indices for {value}", "inputs[1]")
    if not dots:
        return list(index)
    full = [Slice()] * (len(value.dims) - used)
    return [*index[: dots[0]], *full, *index[dots[0] + 1 :]]


def _apply(walk: _Walk, part: object, where: str) -> None:
    if part is None:
        walk.out.append(Dim("", 1))
        return
    dim = walk.current()
    walk.place += 1
    if isinstance(part, Slice):
        walk.out.append(_sliced(dim, part, where))
    elif isinstance(part, bool):
        raise Refusal("wants integers, slices and values, got a bool", where)
    elif isinstance(part, int):
        check_position(part, dim, walk.value, where)
    elif isinstance(part, TensorType | tuple):
        walk.picks = [*(walk.picks or ()), _pick(part, dim, walk.value, where)]
        walk.out.append(None)
    else:
        raise Refusal(f"wants integers, slices and values, got {part!r}", where)


def check_position(position: int, dim: Dim, value: object, where: str) -> None:
    """Refuses a constant position that ``dim`` does not have."""
    if dim.size is not None and not -dim.size <= position < dim.size:
        allowed = f"{-dim.size}..{dim.size - 1}" if dim.size else "none"
        raise Refusal(
            f"position {position} is out of range for {dim} of {value}, allowed: {allowed}",
            where,
            "POSITION_OUT_OF_RANGE",
        )


def _pick(part: object, dim: Dim, value: TensorType, where: str) -> TensorType:
    if isinstance(part, tuple):
        if not part or not all(type(item) is int for item in part):
            raise Refusal(f"wants a list of integers, got {part!r}", where)
        for item in part:
            check_position(item, dim, value, where)
        return TensorType("int64", (Dim(dim.name, len(part)),))
    if isinstance(part, TensorType) and part.dtype == "bool":
        raise Refusal("a mask gives a shape that depends on data: use torch.where or torch.masked_fill", where)
    if not isinstance(part, TensorType) or part.dtype not in ("int64", "int", "any"):
        raise Refusal(f"wants int64 indices, got {part}", where)
    return part


def _sliced(dim: Dim, part: Slice, where: str) -> Dim:
    if part.step is not None and part.step < 1:
        raise Refusal(f"step {part.step} of a slice is not positive: use torch.flip", where)
    if part == Slice():
        return dim
    if dim.size is not None:
        return Dim(dim.name, len(range(*slice(part.start, part.stop, part.step).indices(dim.size))))
    if (part.start, part.stop) == (None, None) and part.step in (None, 1):
        return dim
    # every prompt has at least one position, so its last one is there
    return Dim(dim.name, 1 if (part.start, part.stop) == (-1, None) else None)


def gather(call: Call) -> TensorType:
    """The shape of the index, which has as many dimensions as the value and is nowhere larger."""
    value, index = call.tensor(0), call.indices(1)
    place = axis(value, call.params["dim"])
    _within(index, value, place, 1)
    return TensorType(value.dtype, _named_like(index, value))


def _within(index: TensorType, value: TensorType, place: int | None, where: int) -> None:
    fits = len(index.dims) == len(value.dims) and all(
        i == place or a.size is None or b.size is None or a.size <= b.size
        for i, (a, b) in enumerate(zip(index.dims, value.dims, strict=True))
    )
    if not fits:
        raise Refusal(f"index {index} does not lie within {value}", f"inputs[{where}]")


def _named_like(index: TensorType, value: TensorType) -> tuple[Dim, ...]:
    pairs = zip(index.dims, value.dims, strict=True)
    return tuple(b if a.size == b.size and not a.name else a for a, b in pairs)


def take_along_dim(call: Call) -> TensorType:
    """The shape of the index along ``dim``, broadcast elsewhere."""
    value, index = call.tensor(0), call.indices(1)
    place = axis(value, call.params["dim"])
    if len(index.dims) != len(value.dims) or not value.dims:
        raise Refusal(f"wants as many dimensions as {value}, got {index}", "inputs[1]")
    dims = [joined(a, b) if i != place else b for i, (a, b) in enumerate(zip(value.dims, index.dims, strict=True))]
    if None in dims:
        raise Refusal(f"index {index} does not broadcast against {value}", "inputs[1]")
    return TensorType(value.dtype, tuple(dim for dim in dims if dim is not None))


def index_select(call: Call) -> TensorType:
    """One slice per index."""
    value, index = call.tensor(0), call.indices(1)
    place = axis(value, call.params["dim"])
    if len(index.dims) != 1 or not value.dims:
        raise Refusal(f"wants a vector of indices into {value}, got {index}", "inputs[1]")
    return TensorType(value.dtype, replaced(value.dims, place, index.dims[0]))


def scatter(call: Call) -> TensorType:
    """The type of the value; the index lies within it and within the source."""
    value, index, source = call.tensor(0), call.indices(1), call.operand(2)
    place = axis(value, call.params["dim"])
    _within(index, value, place, 1)
    if isinstance(source, TensorType):
        _within(index, source, None, 2)
        if source.dtype != value.dtype:
            raise Refusal(f"wants {value.dtype}, got {source}: cast it with tensor.to", "inputs[2]")
    elif value.dtype == "uint8" and not 0 <= source <= 255:
        raise Refusal(f"uint8 holds 0 to 255, got {source}", "inputs[2]")
    return value
