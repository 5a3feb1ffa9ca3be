import pytest

from interpd.graph.bind import bind, signature_text
from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.ir import Node, Ref, Slice, Steps
from interpd.graph.schema import OpSchema, ParamSchema, PortSchema

X, Y = Ref(0), Ref(1)

CALLS = [
    ("torch.softmax", (X, -1), {}, Node("torch.softmax", (X,), {"dim": -1})),
    ("torch.gather", (X, 1, Y), {}, Node("torch.gather", (X, Y), {"dim": 1})),
    ("torch.add", (X,), {"other": 2}, Node("torch.add", (X, 2))),
    ("torch.einsum", ("ij,jk->ik", X, Y), {}, Node("torch.einsum", ((X, Y),), {"equation": "ij,jk->ik"})),
    ("torch.einsum", ("ij,jk->ik", [X, Y]), {}, Node("torch.einsum", ((X, Y),), {"equation": "ij,jk->ik"})),
    ("torch.einsum", ("ij->ji", X), {}, Node("torch.einsum", ((X,),), {"equation": "ij->ji"})),
    ("torch.cat", ([X, Y], -1), {}, Node("torch.cat", ((X, Y),), {"dim": -1})),
    ("torch.arange", (5,), {}, Node("torch.arange", (), {"start": 0, "end": 5})),
    ("torch.zeros", (2, 3), {}, Node("torch.zeros", (), {"size": (2, 3)})),
    ("torch.randn", (2, 3), {"seed": 0}, Node("torch.randn", (), {"size": (2, 3), "seed": 0})),
    ("torch.randn", ((2, 3), 0), {}, Node("torch.randn", (), {"size": (2, 3), "seed": 0})),
    ("torch.reshape", (X, 2, 3), {}, Node("torch.reshape", (X,), {"shape": (2, 3)})),
    ("torch.permute", (X, (1, 0)), {}, Node("torch.permute", (X,), {"dims": (1, 0)})),
    ("torch.layer_norm", (X, (8,)), {"bias": Y}, Node("torch.layer_norm", (X, None, Y), {"normalized_shape": (8,)})),
    ("torch.layer_norm", (X, (8,)), {}, Node("torch.layer_norm", (X,), {"normalized_shape": (8,)})),
    ("torch.sum", (X,), {"dim": None}, Node("torch.sum", (X,))),
    ("tensor.getitem", (X, (Slice(), -1)), {}, Node("tensor.getitem", (X, (Slice(), -1)))),
    ("tensor.getitem", (X, [0, 2]), {}, Node("tensor.getitem", (X, ((0, 2),)))),
    ("tensor.getitem", (X, (0, 2)), {}, Node("tensor.getitem", (X, (0, 2)))),
    ("tensor.getitem", (X, None), {}, Node("tensor.getitem", (X, None))),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "node"), CALLS, ids=[f"{c[0]}-{i}" for i, c in enumerate(CALLS)])
def test_calls_in_torchs_manner_have_one_normal_form(name, args, kwargs, node):
    assert bind(BUILTIN_OPS[name], args, kwargs) == node


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X,), {}, "torch.softmax(input, dim: int, dtype: dtype = None) needs 'dim'"),
        (
            (X, 1),
            {"dims": 2},
            "torch.softmax(input, dim: int, dtype: dtype = None) has no argument 'dims'; did you mean 'dim'?",
        ),
        ((X, 1), {"dim": 2}, "torch.softmax() got 'dim' twice"),
        (
            (X, 1, None, 4),
            {},
            "torch.softmax(input, dim: int, dtype: dtype = None) takes 3 positional arguments, got 4",
        ),
    ],
)
def test_calls_that_do_not_fit_raise_type_errors(args, kwargs, message):
    with pytest.raises(TypeError) as error:
        bind(BUILTIN_OPS["torch.softmax"], args, kwargs)
    assert str(error.value) == message


def test_plugin_operations_take_ports_by_position_and_constants_by_name():
    schema = OpSchema("sae.clamp", 2, "", (PortSchema("acts"),), (ParamSchema("feature", "int"),))
    node = bind(schema, (X,), {"feature": 3}, invoke=1, steps=Steps(0, 1), label="c")
    assert node == Node("sae.clamp", (X,), {"feature": 3}, 2, 1, Steps(0, 1), "c")
    with pytest.raises(TypeError, match="takes 1 positional"):
        bind(schema, (X, 3), {})
    assert signature_text(schema) == "sae.clamp(acts, *, feature: int)"
