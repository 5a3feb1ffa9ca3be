"""Types of operations that make new values. Their sizes count against the limits like any other value's."""

from math import ceil, isfinite

from interpd.graph.dims import Call, Refusal, as_ints
from interpd.graph.promotion import FLOATS, INTS
from interpd.graph.types import Dim, TensorType


def _bad(param: str, message: str) -> Refusal:
    return Refusal(message, f"params.{param}", "BAD_PARAM")


def _sized(sizes: tuple[int, ...], param: str) -> tuple[Dim, ...]:
    if any(size < 0 for size in sizes):
        raise _bad(param, f"{sizes} has a negative size")
    return tuple(Dim("", size) for size in sizes)


def make(call: Call) -> TensorType:
    """``size`` elements of ``dtype``."""
    return TensorType(call.params["dtype"], _sized(as_ints(call.params["size"]), "size"))


def noise(call: Call) -> TensorType:
    """As ``make``, of a floating dtype."""
    if call.params["dtype"] not in FLOATS:
        raise _bad("dtype", f"wants a floating dtype, got {call.params['dtype']!r}")
    return make(call)


def like(call: Call) -> TensorType:
    """The shape of the value."""
    value = call.tensor(0)
    return TensorType(call.params["dtype"] or value.dtype, value.dims)


def eye(call: Call) -> TensorType:
    """n by m, square unless m is given."""
    n = call.params["n"]
    return TensorType(call.params["dtype"], _sized((n, n if call.params["m"] is None else call.params["m"]), "n"))


def arange(call: Call) -> TensorType:
    """int64 when all three are integers, else float32."""
    start, end, step = (call.params[name] for name in ("start", "end", "step"))
    if step == 0 or not all(isfinite(number) for number in (start, end, step)):
        raise _bad("step", f"from {start} to {end} by {step} is no range")
    if (end - start) / step < 0:
        raise _bad("step", f"step {step} leads away from {start} to {end}")
    whole = all(isinstance(number, int) for number in (start, end, step))
    dtype = call.params["dtype"] or ("int64" if whole else "float32")
    if dtype == "bool":
        raise _bad("dtype", "wants numbers, got 'bool'")
    if not whole and dtype in INTS:
        raise _bad("dtype", f"wants a floating dtype for fractions, got {dtype!r}")
    size = -((start - end) // step) if whole else ceil((end - start) / step)
    return TensorType(dtype, (Dim("", size),))


def linspace(call: Call) -> TensorType:
    """``steps`` numbers."""
    if call.params["dtype"] == "bool":
        raise _bad("dtype", "wants numbers, got 'bool'")
    return TensorType(call.params["dtype"], _sized((call.params["steps"],), "steps"))


def one_hot(call: Call) -> TensorType:
    """A last dimension of ``num_classes``."""
    value = call.indices(0)
    classes = call.params["num_classes"]
    if classes < 1:
        raise _bad("num_classes", f"num_classes {classes} is not positive")
    return TensorType("int64", (*value.dims, Dim("", classes)))
