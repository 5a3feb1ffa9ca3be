"""What a symbolic value can do, and what it refuses."""

import operator

import numpy as np
import pytest

import interpd_client as interpd
from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.ir import Ref
from interpd.graph.types import TensorData
from interpd_client.habits import HABITS


@pytest.fixture
def t(model):
    return model.trace("a b c")


@pytest.fixture
def h(t):
    return t.layers[0].resid_post


@pytest.mark.parametrize(
    ("expression", "op", "inputs"),
    [
        (lambda h: h + 1, "torch.add", (Ref(0), 1)),
        (lambda h: 1 + h, "torch.add", (1, Ref(0))),
        (lambda h: h - 1, "torch.sub", (Ref(0), 1)),
        (lambda h: 1 - h, "torch.sub", (1, Ref(0))),
        (lambda h: 2.5 * h, "torch.mul", (2.5, Ref(0))),
        (lambda h: h / 2, "torch.div", (Ref(0), 2)),
        (lambda h: 2 / h, "torch.div", (2, Ref(0))),
        (lambda h: h // 2, "torch.floor_divide", (Ref(0), 2)),
        (lambda h: h % 2, "torch.remainder", (Ref(0), 2)),
        (lambda h: h**2, "torch.pow", (Ref(0), 2)),
        (lambda h: 2**h, "torch.pow", (2, Ref(0))),
        (lambda h: h @ h, "torch.matmul", (Ref(0), Ref(0))),
        (lambda h: -h, "torch.neg", (Ref(0),)),
        (lambda h: abs(h), "torch.abs", (Ref(0),)),
        (lambda h: h > 0, "torch.gt", (Ref(0), 0)),
        (lambda h: h <= 0, "torch.le", (Ref(0), 0)),
        (lambda h: h == 0, "torch.eq", (Ref(0), 0)),
        (lambda h: h != 0, "torch.ne", (Ref(0), 0)),
        (lambda h: ~h, "torch.logical_not", (Ref(0),)),
        (lambda h: h & h, "torch.logical_and", (Ref(0), Ref(0))),
        (lambda h: np.float32(2.0) * h, "torch.mul", (2.0, Ref(0))),
    ],
)
def test_operators_record_the_operation_of_torch(t, h, expression, op, inputs):
    expression(h)
    node = t._recording.nodes[-1]
    assert (node.op, node.inputs) == (op, inputs)


@pytest.mark.parametrize(
    ("expression", "op", "params"),
    [
        (lambda h: h.softmax(-1), "torch.softmax", {"dim": -1}),
        (lambda h: h.permute(0, 2, 1), "torch.permute", {"dims": (0, 2, 1)}),
        (lambda h: h.reshape(3, -1), "torch.reshape", {"shape": (3, -1)}),
        (lambda h: h.view(3, 8), "torch.reshape", {"shape": (3, 8)}),
        (lambda h: h.to("float16"), "tensor.to", {"dtype": "float16"}),
        (lambda h: h.to(np.float64), "tensor.to", {"dtype": "float64"}),
        (lambda h: h.to(np.dtype("int64")), "tensor.to", {"dtype": "int64"}),
        (lambda h: h.double(), "tensor.to", {"dtype": "float64"}),
        (lambda h: h.mT, "torch.transpose", {"dim0": -2, "dim1": -1}),
        (lambda h: h.norm(dim=-1), "torch.linalg.vector_norm", {"dim": -1}),
        (lambda h: interpd.torch.linalg.vector_norm(h, dim=-1), "torch.linalg.vector_norm", {"dim": -1}),
        (lambda h: interpd.torch.einsum("bpd,bqd->bpq", h, h), "torch.einsum", {"equation": "bpd,bqd->bpq"}),
        (lambda h: interpd.torch.cat([h, h], dim=1), "torch.cat", {"dim": 1}),
    ],
)
def test_methods_and_functions_take_arguments_as_torch_does(t, h, expression, op, params):
    expression(h)
    node = t._recording.nodes[-1]
    assert (node.op, dict(node.params)) == (op, params)


def test_every_function_of_torch_and_tensor_is_a_method(h):
    methods = {name.partition(".")[2] for name in BUILTIN_OPS if name.startswith(("torch.", "tensor."))}
    assert methods <= set(dir(h))


def test_an_operation_with_two_outputs_gives_a_named_tuple(h):
    top = h.topk(5)
    assert (top.values._ref, top.indices._ref) == (Ref(1, 0), Ref(1, 1))


def test_a_numpy_array_on_the_left_leaves_the_product_to_the_value(t, h):
    np.arange(8, dtype=np.float32) * h
    constant = TensorData.from_numpy(np.arange(8, dtype=np.float32))
    assert t._recording.nodes[-1].inputs == (constant, Ref(0))


def test_computed_values_change_in_place_without_writing_to_the_model(t, h):
    y = h * 2
    y[:, 0] = 0.0
    assert [node.op for node in t._recording.nodes] == ["site.read", "torch.mul", "tensor.setitem"]
    assert y._ref == Ref(2)


def test_types_and_shapes_are_known_before_the_run(h):
    assert str(h.type) == "float32[batch=1 pos=? d_model=8]"
    assert h[:, -1].shape == (1, 8)
    assert h.ndim == 3
    assert h.dtype == "float32"
    assert (h > 0).to(h.dtype).dtype == "float32"


def test_the_transpose_of_what_is_no_matrix_is_refused(h):
    assert h[0, [0, 1]].T.shape == (8, 2)
    with pytest.raises(TypeError, match=r"x.T wants a matrix, got float32\[batch=1 pos=\? d_model=8\]"):
        h.T  # noqa: B018


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (bool, "no truth value before the model has run"),
        (np.asarray, "holds no numbers yet, so numpy cannot take it"),
        (np.exp, "numpy.exp cannot take a symbolic value; use `interpd.torch.exp`"),
        (lambda h: np.add.reduce(h), "numpy.add cannot take a symbolic value"),
        (lambda h: np.add(np.ones(8), h, out=np.ones(8)), "numpy.add cannot take a symbolic value"),
        (lambda h: h.to("cpu"), "names a device"),
        (np.mean, "numpy.mean cannot take a symbolic value; use `interpd.torch.mean`"),
        (len, "no length before the model has run"),
        (list, "cannot be iterated"),
        (float, "no plain number before the model has run"),
        (int, "no plain number before the model has run"),
        (range, "no plain integer"),
        (lambda h: 3 in h, "looks at numbers that do not exist yet"),
        (lambda h: h[True], "a single True or False is no index"),
        (lambda h: h[:, : h.argmax()], "a slice bound must be a plain integer"),
        (lambda h: h[:, [h]], "must hold plain integers"),
        (lambda h: h["a"], "'a' cannot stand in an index"),
        (lambda h: h[np.array([0.5])], "must hold integers or bools, got dtype float64"),
        (lambda h: h + object(), "cannot use <object"),
        (lambda h: h + np.array(["a"]), "an array of dtype <U1 cannot be a constant"),
        (lambda h: h.softmax(), "needs 'dim'"),
    ],
)
def test_what_needs_numbers_is_refused_with_advice(h, use, message):
    with pytest.raises(TypeError, match=message):
        use(h)


def test_functions_without_a_trace_point_to_numpy_and_to_the_trace():
    with pytest.raises(TypeError, match=r"to make a tensor inside a trace use `t.torch.zeros`"):
        interpd.torch.zeros(3)


def test_values_of_another_trace_are_refused(model, h):
    with pytest.raises(ValueError, match="belongs to another trace"):
        model.trace("x").layers[0].resid_post + h


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda h: h.sofmax(-1), "a value has no method 'sofmax'; did you mean 'softmax'"),
        (lambda h: interpd.torch.softmx(h), "graphs have no function 'torch.softmx'; did you mean 'torch.softmax'"),
    ],
)
def test_unknown_methods_and_functions_name_the_nearest(h, use, message):
    with pytest.raises(interpd.UnknownName, match=message):
        use(h)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda torch, h: torch.softmax(h, -1), "torch's own softmax .* `interpd.torch.softmax`"),
        (lambda torch, h: torch.cat([torch.ones(1, 2, 8), h]), "torch's own cat cannot take a symbolic value"),
        (lambda torch, h: torch.nn.functional.gelu(h), "torch's own gelu cannot take a symbolic value"),
        (lambda torch, h: torch.ones(8)[h[0, 0]], "nor be indexed by one"),
    ],
)
def test_functions_of_torch_itself_are_refused_with_advice(h, use, message):
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=message):
        use(torch, h)


def test_a_tensor_on_the_left_leaves_the_operator_to_the_value(t, h):
    left = pytest.importorskip("torch").ones(8)
    for use, op in ((operator.add, "add"), (operator.sub, "sub"), (operator.matmul, "matmul"), (operator.lt, "gt")):
        use(left, h)
        assert t._recording.nodes[-1].op == f"torch.{op}"


def test_torch_tensors_become_constants_without_importing_torch_here(t, h):
    torch = pytest.importorskip("torch")
    half = torch.tensor([1.0, -2.5], dtype=torch.bfloat16)
    t.op("torch.mul", h[..., :2], half)
    constant = t._recording.nodes[-1].inputs[1]
    assert (constant.dtype, constant.to_numpy().tolist()) == ("bfloat16", [1.0, -2.5])
    assert t.op("tensor.to", h, dtype=torch.float16) is not None
    assert t._recording.nodes[-1].params == {"dtype": "float16"}


@pytest.mark.parametrize(
    ("expression", "op"),
    [
        (lambda array, h: array - h, "torch.sub"),
        (lambda array, h: array > h, "torch.lt"),
        (lambda array, h: array == h, "torch.eq"),
        (lambda array, h: np.multiply(h, array), "torch.mul"),
        (lambda array, h: operator.iadd(array, h), "torch.add"),
        (lambda array, h: array[0] / h, "torch.div"),
    ],
)
def test_operators_of_numpy_become_those_of_the_value(t, h, expression, op):
    expression(np.ones(8, dtype=np.float32), h)
    assert t._recording.nodes[-1].op == op


@pytest.mark.parametrize("name", HABITS)
def test_habits_from_elsewhere_are_told_what_to_write(h, name):
    assert not hasattr(h, name)
    with pytest.raises(interpd.UnknownName, match=f"a symbolic value has no '{name}': ") as error:
        getattr(h, name)
    assert "`_" not in str(error.value)


def test_private_names_are_never_suggested(h):
    with pytest.raises(interpd.UnknownName) as error:
        h.cal  # noqa: B018
    assert not [name for name in error.value.nearest if name.startswith("_")]


def test_a_size_is_known_once_the_prompt_is_tokenised(h):
    assert h.shape[1] is None
    assert (h.size(1), h.size(), h.size(-1)) == (3, (1, 3, 8), 8)
    assert h.shape == (1, 3, 8)


def test_a_value_is_saved_under_a_name(t, h):
    with pytest.raises(TypeError, match=r"gives each value a name: `t.save\(h=value\)`"):
        t.save(h)


def test_a_gradient_with_respect_to_a_written_value_names_the_line_to_write(t, h):
    h[:, -1] += 1.0
    with pytest.raises(interpd.InvalidGraph, match=r"again after the write, `h = t.site\('layers.0.resid_post'\)`"):
        h.grad_of(t.logits.sum())
    again = t.site("layers.0.resid_post")
    assert again.grad_of(t.logits.sum()).shape == (1, None, 8)
