"""Types of reductions, selections along a dimension, and normalisations."""

from interpd.graph.dims import (
    Call,
    Refusal,
    as_ints,
    axes,
    axis,
    broadcast,
    n_elements,
    reduced,
    replaced,
    same_size,
    size_of,
)
from interpd.graph.promotion import FLOATS, as_float, promote
from interpd.graph.types import Dim, TensorType


def _accumulated(dtype: str, asked: str | None) -> str:
    """The dtype of sums and products: integers and booleans give int64 unless told otherwise."""
    return asked or (dtype if dtype in FLOATS or dtype == "any" else "int64")


def _not_empty(value: TensorType, places: tuple[int, ...]) -> None:
    if any(size_of(value, place) == 0 for place in places):
        raise Refusal(f"{value} has no elements to choose from", "inputs[0]")


def _reduce(call: Call, value: TensorType, dtype: str) -> TensorType:
    places = axes(value, call.params["dim"])
    return TensorType(dtype, reduced(value, places, call.params.get("keepdim", False)))


def total(call: Call) -> TensorType:
    """Sums and products."""
    value = call.tensor(0)
    return _reduce(call, value, _accumulated(value.dtype, call.params["dtype"]))


def mean(call: Call) -> TensorType:
    """Means, of floats or in a floating ``dtype``."""
    asked = call.params["dtype"]
    if asked is not None and asked not in FLOATS:
        raise Refusal(f"wants a floating dtype, got {asked!r}", "params.dtype", "BAD_PARAM")
    value = call.tensor(0) if asked else call.floating(0)
    return _reduce(call, value, asked or value.dtype)


def reduce_float(call: Call) -> TensorType:
    """Norms, variances, standard deviations: floats only."""
    value = call.floating(0)
    return _reduce(call, value, value.dtype)


def vector_norm(call: Call) -> TensorType:
    """As ``reduce_float``; an infinite or negative order needs elements."""
    order = call.params["ord"]
    value = call.floating(0)
    if order < 0 or order == float("inf"):
        _not_empty(value, axes(value, call.params["dim"]))
    return reduce_float(call)


def reduce_bool(call: Call) -> TensorType:
    """bool. uint8, for which torch answers in uint8, is refused."""
    value = call.tensor(0)
    if value.dtype == "uint8":
        raise Refusal("wants another dtype than uint8: cast it with tensor.to", "inputs[0]")
    return _reduce(call, value, "bool")


def count(call: Call) -> TensorType:
    """int64."""
    return _reduce(call, call.tensor(0), "int64")


def logsumexp(call: Call) -> TensorType:
    """Integers give float32."""
    value = call.tensor(0)
    return _reduce(call, value, as_float(value.dtype))


def extreme(call: Call) -> TensorType:
    """Greatest or least elements of at least one."""
    value = call.tensor(0)
    _not_empty(value, axes(value, call.params["dim"]))
    return _reduce(call, value, value.dtype)


def arg_extreme(call: Call) -> TensorType:
    """int64; without ``dim`` the place in the flattened value."""
    value = call.not_bool(0)
    places = axes(value, call.params["dim"])
    _not_empty(value, places)
    return TensorType("int64", reduced(value, places, call.params["keepdim"]))


def _value_and_index(value: TensorType, dims: tuple[Dim, ...]) -> tuple[TensorType, TensorType]:
    return TensorType(value.dtype, dims), TensorType("int64", dims)


def select_one(call: Call) -> tuple[TensorType, ...]:
    """Values and indices along one dimension."""
    value = call.tensor(0)
    place = axis(value, call.params["dim"])
    _not_empty(value, (place,))
    return _value_and_index(value, reduced(value, (place,), call.params["keepdim"]))


def median(call: Call) -> tuple[TensorType, ...]:
    """As ``select_one``, of numbers."""
    call.not_bool(0)
    return select_one(call)


def _k_within(call: Call, value: TensorType, place: int, least: int) -> int:
    k, size = call.params["k"], size_of(value, place)
    if k < least or (size is not None and k > size):
        most = "?" if size is None else size
        raise Refusal(
            f"k {k} is out of range for dim {place} of {value}, allowed: {least}..{most}", "params.k", "BAD_PARAM"
        )
    return k


def kthvalue(call: Call) -> tuple[TensorType, ...]:
    """As ``select_one``; k counts from 1."""
    value = call.not_bool(0)
    _k_within(call, value, axis(value, call.params["dim"]), 1)
    return select_one(call)


def topk(call: Call) -> tuple[TensorType, ...]:
    """Values and indices; the dimension has size k and no name, for its places mean ranks."""
    value = call.not_bool(0)
    place = axis(value, call.params["dim"])
    k = _k_within(call, value, place, 0)
    dims = replaced(value.dims, place, Dim("", k)) if value.dims else ()
    return _value_and_index(value, dims)


def sort(call: Call) -> tuple[TensorType, ...]:
    """Values and indices."""
    value = call.tensor(0)
    place = axis(value, call.params["dim"])
    dims = replaced(value.dims, place, Dim("", value.dims[place].size)) if value.dims else ()
    return _value_and_index(value, dims)


def argsort(call: Call) -> TensorType:
    """The indices of ``sort``."""
    return sort(call)[1]


def quantile(call: Call) -> TensorType:
    """Of float32 or float64 only, as in torch."""
    value = call.tensor(0)
    if value.dtype not in ("float32", "float64", "float", "any"):
        raise Refusal(f"wants float32 or float64, got {value}: cast it with tensor.to", "inputs[0]")
    if not 0 <= call.params["q"] <= 1:
        raise Refusal(f"wants 0 <= q <= 1, got {call.params['q']}", "params.q", "BAD_PARAM")
    places = axes(value, call.params["dim"])
    _not_empty(value, places)
    if (n_elements(value.dims) or 0) > 16_000_000:
        raise Refusal(f"torch takes quantiles of at most 16 million elements, got {value}", "inputs[0]")
    return TensorType(value.dtype, reduced(value, places, call.params["keepdim"]))


def cumulative(call: Call) -> TensorType:
    """Running sums and products."""
    value = call.tensor(0)
    axis(value, call.params["dim"])
    if call.params["dtype"] == "bool":
        raise Refusal("wants numbers, got 'bool'", "params.dtype", "BAD_PARAM")
    return TensorType(_accumulated(value.dtype, call.params["dtype"]), value.dims)


def softmax(call: Call) -> TensorType:
    """Floats, or in a floating ``dtype``."""
    asked = call.params["dtype"]
    if asked is not None and asked not in FLOATS:
        raise Refusal(f"wants a floating dtype, got {asked!r}", "params.dtype", "BAD_PARAM")
    value = call.tensor(0) if asked else call.floating(0)
    axis(value, call.params["dim"])
    return TensorType(asked or value.dtype, value.dims)


def normalize(call: Call) -> TensorType:
    """The type of the value."""
    value = call.floating(0)
    axis(value, call.params["dim"])
    return value


def layer_norm(call: Call) -> TensorType:
    """The type of the value, whose last dimensions are those of ``normalized_shape``, weight and bias."""
    value = call.floating(0)
    shape = as_ints(call.params["normalized_shape"])
    tail = value.dims[len(value.dims) - len(shape) :] if len(shape) <= len(value.dims) else ()
    if not shape or len(tail) != len(shape) or not all(same_size(d.size, s) for d, s in zip(tail, shape, strict=True)):
        raise Refusal(f"{shape} is not the end of {value}", "params.normalized_shape", "BAD_PARAM")
    for index in range(1, len(call.inputs)):
        if call.inputs[index] is not None:
            _scale(call, index, value, shape)
    return value


def _scale(call: Call, index: int, value: TensorType, shape: tuple[int, ...]) -> None:
    scale = call.tensor(index)
    sizes = tuple(dim.size for dim in scale.dims)
    fits = len(sizes) == len(shape) and all(same_size(a, b) for a, b in zip(sizes, shape, strict=True))
    if not fits or scale.dtype != value.dtype:
        raise Refusal(f"wants {value.dtype}{list(shape)}, got {scale}", f"inputs[{index}]")


def cosine_similarity(call: Call) -> TensorType:
    """Promoted floats, reduced along ``dim`` of the broadcast shape."""
    values = [call.floating(0), call.floating(1)]
    both = TensorType(promote(values[0].dtype, values[1].dtype), broadcast(values))
    return TensorType(both.dtype, reduced(both, (axis(both, call.params["dim"]),), keepdim=False))
