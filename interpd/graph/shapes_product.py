"""Types of products: matrices, vectors, einsum."""

import re
from collections import Counter
from collections.abc import Sequence

from interpd.graph.dims import Call, Refusal, broadcast_pair, joined, same_size
from interpd.graph.promotion import result_dtype
from interpd.graph.types import Dim, TensorType


def _factors(call: Call, count: int) -> list[TensorType]:
    """The first ``count`` inputs: floating, of one dtype (torch promotes nothing here, and integers run on no GPU)."""
    values = [call.floating(index) for index in range(count)]
    for index, value in enumerate(values):
        if value.dtype != values[0].dtype and "any" not in (value.dtype, values[0].dtype):
            raise Refusal(
                f"wants {values[0].dtype} like the first value, got {value}: cast it with tensor.to", f"inputs[{index}]"
            )
    return values


def _of_rank(value: TensorType, rank: int, index: int) -> None:
    if len(value.dims) != rank:
        raise Refusal(f"wants {rank} dimensions, got {value}", f"inputs[{index}]")


def _contract(a: TensorType, b: TensorType, dim_a: Dim, dim_b: Dim) -> None:
    if not same_size(dim_a.size, dim_b.size):
        raise Refusal(f"cannot multiply {a} by {b}: {dim_a} against {dim_b}", "inputs[1]")


def matmul(call: Call) -> TensorType:
    """Vectors and matrices as in torch, broadcast over leading dimensions."""
    a, b = _factors(call, 2)
    for index, value in enumerate((a, b)):
        if not value.dims:
            raise Refusal(f"wants at least 1 dimension, got {value}", f"inputs[{index}]")
    _contract(a, b, a.dims[-1], b.dims[-2] if len(b.dims) > 1 else b.dims[0])
    lead = broadcast_pair(a.dims[:-2], TensorType(b.dtype, b.dims[:-2]), TensorType(a.dtype, a.dims[:-2]), "inputs[1]")
    return TensorType(a.dtype, (*lead, *a.dims[-2:-1], *(b.dims[-1:] if len(b.dims) > 1 else ())))


def bmm(call: Call) -> TensorType:
    """Three dimensions each."""
    a, b = _factors(call, 2)
    _of_rank(a, 3, 0)
    _of_rank(b, 3, 1)
    _contract(a, b, a.dims[0], b.dims[0])
    _contract(a, b, a.dims[2], b.dims[1])
    return TensorType(a.dtype, (a.dims[0], a.dims[1], b.dims[2]))


def dot(call: Call) -> TensorType:
    """A 0-d value."""
    a, b = _factors(call, 2)
    _of_rank(a, 1, 0)
    _of_rank(b, 1, 1)
    _contract(a, b, a.dims[0], b.dims[0])
    return TensorType(a.dtype)


def outer(call: Call) -> TensorType:
    """Promoted dtype."""
    a, b = call.tensor(0), call.tensor(1)
    _of_rank(a, 1, 0)
    _of_rank(b, 1, 1)
    return TensorType(result_dtype([a, b]), (*a.dims, *b.dims))


def linear(call: Call) -> TensorType:
    """``weight`` is [out, in] or [in]."""
    has_bias = len(call.inputs) > 2 and call.inputs[2] is not None
    value, weight, *bias = _factors(call, 3 if has_bias else 2)
    if not value.dims:
        raise Refusal(f"wants at least 1 dimension, got {value}", "inputs[0]")
    _of_rank(weight, 2, 1)
    _contract(value, weight, value.dims[-1], weight.dims[1])
    if bias:
        _of_rank(bias[0], 1, 2)
        if not same_size(bias[0].dims[0].size, weight.dims[0].size):
            raise Refusal(f"bias {bias[0]} does not fit weight {weight}", "inputs[2]")
    return TensorType(value.dtype, (*value.dims[:-1], weight.dims[0]))


_EQUATION = re.compile(r"(?P<operands>[A-Za-z.,]*)(->(?P<out>[A-Za-z.]*))?$")


def einsum(call: Call) -> TensorType:
    """The dimensions that the equation keeps, with the names that they have in the operands."""
    operands = call.inputs[0]
    if not isinstance(operands, tuple) or not operands:
        raise Refusal(f"wants a tuple of values, got {operands!r}", "inputs[0]")
    values = _factors(Call(operands, {}), len(operands))
    equation = call.params["equation"].replace(" ", "")
    match = _EQUATION.match(equation)
    if match is None or any(
        part.count(".") not in (0, 3) or ("." in part and "..." not in part) for part in re.split(",|->", equation)
    ):
        raise _bad_equation(equation, "is not letters, commas, '...' and '->'")
    terms = match["operands"].split(",")
    if len(terms) != len(values):
        raise _bad_equation(equation, f"has {len(terms)} terms for {len(values)} operands")
    sizes, dots = _bind_terms(equation, terms, values)
    out = match["out"] if match["out"] is not None else _implicit(terms)
    return TensorType(values[0].dtype, _kept(equation, out, sizes, dots))


def _bad_equation(equation: str, problem: str) -> Refusal:
    return Refusal(f"equation {equation!r} {problem}", "params.equation", "BAD_PARAM")


def _implicit(terms: Sequence[str]) -> str:
    counts = Counter("".join(terms).replace(".", ""))
    return ("..." if any("..." in term for term in terms) else "") + "".join(
        sorted(c for c, n in counts.items() if n == 1)
    )


def _bind_terms(
    equation: str, terms: Sequence[str], values: Sequence[TensorType]
) -> tuple[dict[str, Dim], tuple[Dim, ...]]:
    sizes: dict[str, Dim] = {}
    dots: tuple[Dim, ...] = ()
    for index, (term, value) in enumerate(zip(terms, values, strict=True)):
        head, has_dots, tail = term.partition("...")
        n_dots = len(value.dims) - len(head) - len(tail)
        if n_dots < 0 or (n_dots and not has_dots):
            raise Refusal(f"term {term!r} of {equation!r} does not fit {value}", f"inputs[0][{index}]")
        covered = TensorType(value.dtype, value.dims[len(head) : len(head) + n_dots])
        dots = broadcast_pair(dots, covered, TensorType(value.dtype, dots), f"inputs[0][{index}]")
        named = (*value.dims[: len(head)], *value.dims[len(head) + n_dots :])
        here: dict[str, Dim] = {}
        for letter, dim in zip(head + tail, named, strict=True):
            known = sizes.get(letter, dim)
            both = joined(known, dim)
            # inside one operand a repeated letter is a diagonal, which does not broadcast
            if both is None or not same_size(here.setdefault(letter, dim).size, dim.size):
                raise Refusal(f"{letter!r} of {equation!r} is {known} and {dim}, in {value}", f"inputs[0][{index}]")
            sizes[letter] = both
    return sizes, dots


def _kept(equation: str, out: str, sizes: dict[str, Dim], dots: tuple[Dim, ...]) -> tuple[Dim, ...]:
    letters = out.replace("...", "")
    if len(set(letters)) != len(letters):
        raise _bad_equation(equation, "repeats a letter in its output")
    unknown = [letter for letter in letters if letter not in sizes]
    if unknown:
        raise _bad_equation(equation, f"has {unknown[0]!r} in its output but in no operand")
    head, has_dots, tail = out.partition("...")
    return (*(sizes[c] for c in head), *(dots if has_dots else ()), *(sizes[c] for c in tail))
