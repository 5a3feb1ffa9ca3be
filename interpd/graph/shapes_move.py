"""Types of operations that rearrange elements: reshaping, permuting, joining, repeating."""

from collections.abc import Sequence
from math import prod
from typing import Any

from interpd.graph.dims import Call, Refusal, as_ints, axes, axis, n_elements, replaced, same_size
from interpd.graph.promotion import result_dtype
from interpd.graph.types import Dim, TensorType


def _bad(param: str, message: str) -> Refusal:
    return Refusal(message, f"params.{param}", "BAD_PARAM")


def _like(value: TensorType, dims: Sequence[Dim]) -> TensorType:
    return TensorType(value.dtype, tuple(dims))


def _filled(sizes: tuple[int, ...], total: int | None, what: object, param: str) -> list[int | None]:
    """``sizes`` with a -1 replaced by what is left of ``total`` elements."""
    if any(size < -1 for size in sizes) or sizes.count(-1) > 1:
        raise _bad(param, f"{sizes} is not a shape: sizes are 0 or more, one may be -1")
    known = prod(size for size in sizes if size != -1)
    if total is None:
        return [None if size == -1 else size for size in sizes]
    fits = known == total if -1 not in sizes else known > 0 and total % known == 0
    if not fits:
        raise _bad(param, f"{what} has {total} elements, which do not fit the shape {sizes}")
    return [total // known if size == -1 else size for size in sizes]


def reshape(call: Call) -> TensorType:
    """Leading and trailing dimensions whose sizes stay keep their names."""
    value = call.tensor(0)
    sizes = _filled(as_ints(call.params["shape"]), n_elements(value.dims), value, "shape")
    names = [""] * len(sizes)
    for step in (1, -1):
        for place, size in list(enumerate(sizes))[::step]:
            old = place if step == 1 else place - len(sizes) + len(value.dims)
            if not 0 <= old < len(value.dims) or value.dims[old].size != size:
                break
            names[place] = names[place] or value.dims[old].name
    return _like(value, [Dim(name, size) for name, size in zip(names, sizes, strict=True)])


def flatten(call: Call) -> TensorType:
    """The dimensions start..end become one."""
    value = call.tensor(0)
    start, end = (
        axis(value, call.params["start_dim"], "params.start_dim"),
        axis(value, call.params["end_dim"], "params.end_dim"),
    )
    if not value.dims:
        return _like(value, [Dim("", 1)])
    if start > end:
        raise _bad("start_dim", f"start_dim {start} lies behind end_dim {end}")
    middle = value.dims[start : end + 1]
    one = middle[0] if len(middle) == 1 else Dim("", n_elements(middle))
    return _like(value, (*value.dims[:start], one, *value.dims[end + 1 :]))


def unflatten(call: Call) -> TensorType:
    """One dimension becomes several, without names."""
    value = call.tensor(0)
    place = axis(value, call.params["dim"])
    if not value.dims or not as_ints(call.params["sizes"]):
        raise _bad("dim", f"{value} cannot be split into {call.params['sizes']}")
    old = value.dims[place]
    sizes = _filled(as_ints(call.params["sizes"]), old.size, old, "sizes")
    return _like(value, replaced(value.dims, place, *(Dim("", size) for size in sizes)))


def squeeze(call: Call) -> TensorType:
    """Named dimensions of size 1 go; whether they are of size 1 must be known."""
    value = call.tensor(0)
    places = axes(value, call.params["dim"])
    for place in places:
        if value.dims and value.dims[place].size is None:
            raise _bad("dim", f"whether {value.dims[place]} of {value} has size 1 is not known yet: index it instead")
    return _like(value, [dim for i, dim in enumerate(value.dims) if i not in places or dim.size != 1])


def unsqueeze(call: Call) -> TensorType:
    """A dimension of size 1 without a name."""
    value = call.tensor(0)
    place = axis(value, call.params["dim"], extra=1)
    return _like(value, (*value.dims[:place], Dim("", 1), *value.dims[place:]))


def transpose(call: Call) -> TensorType:
    """Two dimensions exchanged."""
    value = call.tensor(0)
    a, b = axis(value, call.params["dim0"], "params.dim0"), axis(value, call.params["dim1"], "params.dim1")
    if not value.dims:
        return value
    dims = list(value.dims)
    dims[a], dims[b] = dims[b], dims[a]
    return _like(value, dims)


def permute(call: Call) -> TensorType:
    """Every dimension exactly once."""
    value = call.tensor(0)
    asked = as_ints(call.params["dims"])
    places = [axis(value, dim, "params.dims") for dim in asked]
    if sorted(places) != list(range(len(value.dims))):
        raise _bad("dims", f"{asked} does not name each dimension of {value} once")
    return _like(value, [value.dims[place] for place in places])


def movedim(call: Call) -> TensorType:
    """The dimensions at ``source`` stand at ``destination``, the others keep their order."""
    value = call.tensor(0)
    source = [axis(value, dim, "params.source") for dim in as_ints(call.params["source"])]
    target = [axis(value, dim, "params.destination") for dim in as_ints(call.params["destination"])]
    if len(source) != len(target) or len(set(source)) != len(source) or len(set(target)) != len(target):
        raise _bad("destination", f"source {source} and destination {target} are not pairs of different dimensions")
    if not value.dims:
        return value
    moved = dict(zip(target, source, strict=True))
    rest = iter(i for i in range(len(value.dims)) if i not in source)
    return _like(value, [value.dims[moved[i] if i in moved else next(rest)] for i in range(len(value.dims))])


def broadcast_to(call: Call) -> TensorType:
    """-1 keeps a size."""
    value = call.tensor(0)
    sizes = as_ints(call.params["size"])
    lead = len(sizes) - len(value.dims)
    if lead < 0 or any(size < 0 for size in sizes[:lead]) or any(size < -1 for size in sizes):
        raise _bad("size", f"{value} cannot be broadcast to {sizes}")
    dims = [Dim("", size) for size in sizes[:lead]]
    for old, size in zip(value.dims, sizes[lead:], strict=True):
        if old.size not in (1, None, size) and size != -1:
            raise _bad("size", f"{value} cannot be broadcast to {sizes}: {old} against {size}")
        dims.append(old if size == -1 else Dim(old.name, size))
    return _like(value, dims)


def repeat_interleave(call: Call) -> TensorType:
    """The dimension grows by the factor ``repeats`` and loses its name."""
    value = call.tensor(0)
    place = axis(value, call.params["dim"])
    repeats = call.params["repeats"]
    if repeats < 0:
        raise _bad("repeats", f"repeats {repeats} is negative")
    if not value.dims:
        raise Refusal(f"wants at least 1 dimension, got {value}", "inputs[0]")
    size = value.dims[place].size
    return _like(value, replaced(value.dims, place, Dim("", None if size is None else size * repeats)))


def narrow(call: Call) -> TensorType:
    """``length`` places from ``start`` on."""
    value = call.tensor(0)
    place = axis(value, call.params["dim"])
    start, length = call.params["start"], call.params["length"]
    if not value.dims:
        raise Refusal(f"wants at least 1 dimension, got {value}", "inputs[0]")
    old = value.dims[place]
    if length < 0:
        raise _bad("length", f"length {length} is negative")
    if old.size is not None and not (
        -old.size <= start <= old.size and start % (old.size + (start >= 0) or 1) + length <= old.size
    ):
        raise Refusal(
            f"{start}..{start + length} is out of range for {old} of {value}", "params.start", "POSITION_OUT_OF_RANGE"
        )
    return _like(value, replaced(value.dims, place, Dim(old.name, length)))


def flip(call: Call) -> TensorType:
    """The type of the value."""
    value = call.tensor(0)
    axes(value, call.params["dims"], "params.dims")
    return value


def roll(call: Call) -> TensorType:
    """The type of the value; one shift per dimension."""
    value = call.tensor(0)
    shifts, dims = as_ints(call.params["shifts"]), as_ints(call.params["dims"])
    if len(shifts) != len(dims) or not shifts:
        raise _bad("shifts", f"{len(shifts)} shifts for {len(dims)} dimensions")
    if not value.dims:
        raise Refusal(f"wants at least 1 dimension, got {value}", "inputs[0]")
    for dim in dims:
        axis(value, dim, "params.dims")
    return value


def diagonal(call: Call) -> TensorType:
    """The two dimensions go, the diagonal comes last."""
    value = call.tensor(0)
    a, b = axis(value, call.params["dim1"], "params.dim1"), axis(value, call.params["dim2"], "params.dim2")
    if a == b:
        raise _bad("dim2", f"dim1 and dim2 are one dimension of {value}")
    rows, columns, offset = value.dims[a].size, value.dims[b].size, call.params["offset"]
    size = None
    if rows is not None and columns is not None:
        size = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    return _like(value, (*(dim for i, dim in enumerate(value.dims) if i not in (a, b)), Dim("", size)))


def triangle(call: Call) -> TensorType:
    """The type of the value, which is at least a matrix."""
    value = call.tensor(0)
    if len(value.dims) < 2:
        raise Refusal(f"wants at least 2 dimensions, got {value}", "inputs[0]")
    return value


def _parts(call: Call) -> list[TensorType]:
    parts: Any = call.inputs[0]
    if not isinstance(parts, tuple) or not parts:
        raise Refusal(f"wants a tuple of at least one value, got {parts!r}", "inputs[0]")
    return [Call(parts, {}).tensor(index) for index in range(len(parts))]


def cat(call: Call) -> TensorType:
    """All sizes agree except along ``dim``, where they add up."""
    values = _parts(call)
    first = values[0]
    if not first.dims:
        raise Refusal(f"wants at least 1 dimension, got {first}: use torch.stack", "inputs[0][0]")
    place = axis(first, call.params["dim"])
    for index, value in enumerate(values):
        fits = len(value.dims) == len(first.dims) and all(
            i == place or same_size(a.size, b.size) for i, (a, b) in enumerate(zip(first.dims, value.dims, strict=True))
        )
        if not fits:
            raise Refusal(f"{value} does not join {first} along dim {place}", f"inputs[0][{index}]")
    sizes = [value.dims[place].size for value in values]
    total = None if None in sizes else sum(sizes)  # type: ignore[arg-type]
    name = first.dims[place].name if len(values) == 1 else ""
    return TensorType(result_dtype(values), replaced(first.dims, place, Dim(name, total)))


def stack(call: Call) -> TensorType:
    """All sizes agree; the new dimension has no name."""
    values = _parts(call)
    first = values[0]
    place = axis(first, call.params["dim"], extra=1)
    for index, value in enumerate(values):
        sizes = zip(first.dims, value.dims, strict=False)
        if len(value.dims) != len(first.dims) or not all(same_size(a.size, b.size) for a, b in sizes):
            raise Refusal(f"{value} differs from {first}", f"inputs[0][{index}]")
    return TensorType(result_dtype(values), (*first.dims[:place], Dim("", len(values)), *first.dims[place:]))
