"""The shape rules against torch: what a rule accepts torch computes, with that type; what it refuses torch refuses."""

import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.dims import Call, Refusal
from interpd.graph.ir import Dots, Slice
from interpd.graph.shapes import RULES
from interpd.graph.types import Dim, TensorType
from interpd.ops.implementations import IMPLEMENTATIONS

FLOATS = ("float64", "float32", "float16", "bfloat16")
DTYPES = (*FLOATS, "int64", "int32", "uint8", "bool")

FLOAT_PRODUCTS = ("torch.matmul", "torch.bmm", "torch.dot", "torch.linear", "torch.einsum")

# Where a rule refuses on purpose what torch computes on a CPU, and the words with which it does.
STRICTER = {
    # integer products have no GPU kernel; a float put among integers would lose its fraction in silence
    **dict.fromkeys(
        (*FLOAT_PRODUCTS, "torch.cosine_similarity", "torch.kl_div", "tensor.setitem"), "cast it with tensor.to"
    ),
    # torch answers in uint8 here, and in bool everywhere else
    **dict.fromkeys(("torch.any", "torch.all"), "uint8"),
    **dict.fromkeys(("torch.arange", "torch.rand", "torch.randn"), "wants a floating dtype"),
    **dict.fromkeys(
        ("torch.cumsum", "torch.cumprod", "torch.linspace", "torch.kthvalue", "torch.pow"), "wants numbers"
    ),
    # 0-d values that torch takes for vectors
    **dict.fromkeys(("torch.gather", "torch.scatter_add"), "does not lie within"),
    # torch wraps -1 around in uint8
    "torch.scatter": ("does not lie within", "uint8 holds 0 to 255"),
    "torch.masked_fill": "uint8 holds 0 to 255",
    "torch.index_select": "wants a vector of indices",
    # torch takes uint8 classes too, and probabilities of another dtype
    "torch.cross_entropy": ("wants int64 indices", "cast it with tensor.to"),
    "torch.repeat_interleave": "at least 1 dimension",
    # torch makes a tensor with a negative size
    "torch.broadcast_to": ("cannot be broadcast to (0, -1", "cannot be broadcast to (-1"),
}
ALWAYS_STRICTER = ("wants 2 dimensions", "has '...' twice")

shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
dims = st.integers(-4, 3)
many_dims = st.one_of(st.none(), dims, st.lists(dims, min_size=1, max_size=2).map(tuple))
numbers = st.one_of(st.integers(-2, 3), st.sampled_from([0.5, -1.0]), st.booleans())
dtypes = st.one_of(st.just(None), st.sampled_from(DTYPES))


any_dtype = st.sampled_from(DTYPES)


@st.composite
def values(draw, shape=shapes, dtype=any_dtype):
    return torch.ones(draw(shape)).to(getattr(torch, draw(dtype)))


indices = values(dtype=st.just("int64")).map(torch.zeros_like)
broadcasting = st.sampled_from([(), (3,), (1,), (2, 3), (2, 1), (1, 3), (2,), (4, 2, 3)])
operand = st.one_of(values(broadcasting), numbers)
sizes = st.lists(st.integers(-1, 4), max_size=3).map(tuple)
same_dtype = st.shared(st.sampled_from(FLOATS), key="dtype")

PARAMS = {
    "dim": dims,
    "keepdim": st.booleans(),
    "dtype": dtypes,
    "shape": sizes,
    "size": sizes,
    "sizes": sizes,
    "k": st.integers(0, 3),
    "q": st.sampled_from([0.0, 0.5, 1, 1.5]),
    "start_dim": dims,
    "end_dim": dims,
    "dims": st.lists(dims, min_size=1, max_size=3).map(tuple),
    "shifts": st.lists(st.integers(-2, 2), min_size=1, max_size=2).map(tuple),
    "source": st.lists(dims, min_size=1, max_size=2).map(tuple),
    "destination": st.lists(dims, min_size=1, max_size=2).map(tuple),
    "repeats": st.integers(0, 3),
    "start": st.integers(-4, 4),
    "length": st.integers(-1, 3),
    "offset": st.integers(-3, 3),
    "fill_value": st.integers(0, 1),
    "normalized_shape": st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
    "num_classes": st.integers(0, 3),
    "n": st.integers(-1, 3),
    "m": st.one_of(st.none(), st.integers(-1, 3)),
    "end": st.one_of(st.integers(-4, 4), st.just(2.5)),
    "step": st.sampled_from([1, 2, -1, 0.5, 0]),
    "steps": st.integers(-1, 3),
    "seed": st.integers(0, 3),
    "value": numbers,
    "min": st.one_of(st.none(), numbers),
    "max": st.one_of(st.none(), numbers),
    "dim0": dims,
    "dim1": dims,
    "dim2": dims,
    "diagonal": st.integers(-1, 1),
    "equation": st.sampled_from(["ij,jk->ik", "ij,jk", "...i,i->...", "ii->i", "ij->ji", "i,j->ij", "ab,ab->", "i->k"]),
    "ignore_index": st.sampled_from([-100, 0]),
    "label_smoothing": st.sampled_from([0.0, 0.5, 1, 1.5]),
    "log_target": st.booleans(),
    "ord": st.sampled_from([1, 2, float("inf"), -1]),
}


def _param(param):
    if param.name == "dim" and param.kind == "ints":
        return many_dims if not param.required else many_dims.filter(lambda dim: dim is not None)
    if param.choices:
        return st.sampled_from(param.choices)
    return PARAMS.get(param.name)


def _port(name, port):
    if name == "torch.one_hot" or (
        port.name in ("index", "indices") and name != "tensor.getitem" and name != "tensor.setitem"
    ):
        return indices
    if (name, port.name) == ("torch.cross_entropy", "target"):
        return st.one_of(indices, values())
    if name in ("torch.gelu", "torch.lerp") or name in FLOAT_PRODUCTS:
        return values(dtype=same_dtype)
    if port.allows_const:
        return operand
    if port.name in ("condition", "mask"):
        return values(broadcasting, st.just("bool"))
    return values()


slices = st.builds(Slice, *[st.one_of(st.none(), st.integers(-4, 4))] * 2, st.one_of(st.none(), st.integers(1, 2)))
part = st.one_of(
    st.integers(-3, 2),
    slices,
    st.just(Dots()),
    st.none(),
    st.just((0, -1)),
    st.just(torch.zeros(2, dtype=torch.int64)),
)
index = st.one_of(part.filter(lambda item: not isinstance(item, tuple)), st.lists(part, max_size=4).map(tuple))


@st.composite
def calls(draw, name):
    schema = BUILTIN_OPS[name]
    inputs = []
    for port in schema.inputs:
        if port.name == "index" and name.startswith("tensor."):
            inputs.append(draw(index))
        elif port.variadic:
            some = values(dtype=same_dtype) if name == "torch.einsum" else values()
            inputs.append(tuple(draw(st.lists(some, min_size=1, max_size=3))))
        elif port.optional:
            inputs.append(None)
        else:
            inputs.append(draw(_port(name, port)))
    params = {}
    for param in schema.params:
        strategy = _param(param)
        if strategy is not None and (param.required or draw(st.booleans())):
            value = draw(strategy)
            if value is not None:
                params[param.name] = value
            elif param.required:
                params[param.name] = draw(strategy.filter(lambda item: item is not None))
    return inputs, params


def _type(value):
    if isinstance(value, torch.Tensor):
        return TensorType(str(value.dtype)[6:], tuple(Dim("", size) for size in value.shape))
    if isinstance(value, tuple):
        return tuple(_type(item) for item in value)
    return value


def _ready(value):
    if isinstance(value, Slice):
        return slice(value.start, value.stop, value.step)
    if isinstance(value, Dots):
        return Ellipsis
    if isinstance(value, tuple):
        return tuple(_ready(item) for item in value)
    return value


def _sizes(types):
    return [(kind.dtype, [dim.size for dim in kind.dims]) for kind in types]


def _by_rule(name, inputs, params):
    schema = BUILTIN_OPS[name]
    defaults = {param.name: param.default for param in schema.params}
    out = RULES[schema.shape_rule](Call([_type(item) for item in inputs], defaults | params))
    return _sizes((out,) if isinstance(out, TensorType) else out)


def _by_torch(name, inputs, params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = IMPLEMENTATIONS[name](*(_ready(item) for item in inputs), **params)
    return _sizes(_type(item) for item in (out if isinstance(out, tuple) else (out,)))


@pytest.mark.parametrize("name", sorted(IMPLEMENTATIONS))
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_rule_gives_the_type_that_torch_gives(name, data):
    compare(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(IMPLEMENTATIONS))
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_rule_gives_the_type_that_torch_gives_for_many_calls(name, data):
    compare(name, data)


def compare(name, data):
    """Rule and torch agree on one call, drawn from ``data``."""
    inputs, params = data.draw(calls(name))
    try:
        expected = _by_rule(name, inputs, params)
    except Refusal as refusal:
        expected = refusal
    try:
        actual = _by_torch(name, inputs, params)
    except Exception as error:
        if isinstance(expected, Refusal):
            return
        raise AssertionError(f"the rule gives {expected} where torch refuses") from error
    if isinstance(expected, Refusal):
        own = STRICTER.get(name, ())
        allowed = (*ALWAYS_STRICTER, *((own,) if isinstance(own, str) else own))
        stricter = any(words in expected.message for words in allowed)
        assert stricter, f"the rule says: {expected.message}; torch gives {actual}"
        return
    assert expected == actual
