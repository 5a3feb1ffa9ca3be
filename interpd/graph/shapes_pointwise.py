"""Types of elementwise operations: broadcast dimensions, promoted dtype."""

from interpd.graph.dims import Call, Refusal, broadcast
from interpd.graph.promotion import FLOATS, INTS, as_float, result_dtype
from interpd.graph.types import TensorType


def _operands(call: Call) -> list[TensorType | bool | int | float]:
    values = [call.operand(index) for index in range(len(call.inputs))]
    if not any(isinstance(value, TensorType) for value in values):
        raise Refusal("wants at least one value, got only numbers", "inputs[0]")
    return values


def arithmetic(call: Call) -> TensorType:
    """Promoted dtype of all operands."""
    values = _operands(call)
    return TensorType(result_dtype(values), broadcast(values))


def subtraction(call: Call) -> TensorType:
    """As arithmetic, but booleans cannot be subtracted."""
    for index, value in enumerate(call.inputs):
        if isinstance(value, bool) or (isinstance(value, TensorType) and value.dtype == "bool"):
            raise Refusal("booleans cannot be subtracted: use torch.logical_xor or cast", f"inputs[{index}]")
    return arithmetic(call)


def division(call: Call) -> TensorType:
    """Integers divided give float32."""
    out = arithmetic(call)
    return TensorType(as_float(out.dtype), out.dims)


def integer_division(call: Call) -> TensorType:
    """As arithmetic, but not between booleans; a constant divisor is not zero for integers."""
    out = arithmetic(call)
    if out.dtype == "bool":
        raise Refusal("wants numbers, got booleans", "inputs[0]")
    divisor = call.inputs[1]
    if out.dtype in INTS and not isinstance(divisor, TensorType) and divisor == 0:
        raise Refusal("integers cannot be divided by 0", "inputs[1]")
    return out


def power(call: Call) -> TensorType:
    """As arithmetic; integers have no negative powers."""
    out = arithmetic(call)
    if out.dtype == "bool":
        raise Refusal("wants numbers, got booleans", "inputs[0]")
    exponent = call.inputs[1]
    if out.dtype in INTS and isinstance(exponent, int) and exponent < 0:
        raise Refusal(f"integers have no power of {exponent}: cast the value to a floating dtype", "inputs[1]")
    return out


def comparison(call: Call) -> TensorType:
    """bool."""
    return TensorType("bool", broadcast(_operands(call)))


def test(call: Call) -> TensorType:
    """bool, of one value."""
    return TensorType("bool", call.tensor(0).dims)


def same(call: Call) -> TensorType:
    """The type of the value itself."""
    return call.tensor(0)


def negation(call: Call) -> TensorType:
    """The type of the value itself, which holds numbers."""
    return call.not_bool(0)


def square(call: Call) -> TensorType:
    """The type of the value itself; booleans give int64."""
    value = call.tensor(0)
    return TensorType("int64", value.dims) if value.dtype == "bool" else value


def float_unary(call: Call) -> TensorType:
    """Integers give float32."""
    value = call.tensor(0)
    return value if value.dtype in FLOATS else TensorType(as_float(value.dtype), value.dims)


def float_only(call: Call) -> TensorType:
    """The type of the value itself, which is floating."""
    return call.floating(0)


def clamp(call: Call) -> TensorType:
    """Promoted with the bounds, of which there is at least one."""
    bounds = [call.params[name] for name in ("min", "max") if call.params[name] is not None]
    if not bounds:
        raise Refusal("give min, max or both", "params.min", "BAD_PARAM")
    value = call.tensor(0)
    dtype = result_dtype([value, *bounds])
    if dtype == "bool":
        raise Refusal(f"wants numbers, got {value}", "inputs[0]")
    return TensorType(dtype, value.dims)


def where(call: Call) -> TensorType:
    """Promoted dtype of the two choices."""
    condition = call.tensor(0)
    if condition.dtype not in ("bool", "any"):
        raise Refusal(f"wants a bool condition, got {condition}", "inputs[0]")
    choices = [call.operand(1), call.operand(2)]
    return TensorType(result_dtype(choices), broadcast([condition, *choices]))


def masked_fill(call: Call) -> TensorType:
    """The dtype of the value."""
    value, mask = call.tensor(0), call.tensor(1)
    if mask.dtype not in ("bool", "any"):
        raise Refusal(f"wants a bool mask, got {mask}", "inputs[1]")
    new = call.params["value"]
    if value.dtype == "uint8" and isinstance(new, int | float) and not 0 <= new <= 255:
        raise Refusal(f"uint8 holds 0 to 255, got {new}", "params.value")
    return TensorType(value.dtype, broadcast([value, mask]))


def lerp(call: Call) -> TensorType:
    """One floating dtype for all."""
    start, end = call.floating(0), call.floating(1)
    values = [start, end]
    if isinstance(call.inputs[2], TensorType):
        values.append(call.floating(2))
    else:
        call.operand(2)
    for index, value in enumerate(values):
        if value.dtype != start.dtype:
            raise Refusal(f"wants {start.dtype} like the first value, got {value}", f"inputs[{index}]")
    return TensorType(start.dtype, broadcast(values))


def cast(call: Call) -> TensorType:
    """The asked dtype."""
    return TensorType(call.params["dtype"], call.tensor(0).dims)
