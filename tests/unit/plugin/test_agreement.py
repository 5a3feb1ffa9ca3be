from dataclasses import dataclass

import pytest

from interpd.graph.schema import OpSchema, PortSchema
from interpd.graph.types import Dim, TensorType
from interpd.plugin.agreement import AxisSizes, check_values


@dataclass
class Value:
    shape: tuple[int, ...]
    dtype: str = "torch.float32"


def port(name, *axes, dtype="float", **facts):
    return PortSchema(name, TensorType(dtype, tuple(map(Dim, axes))), **facts)


ENCODE = OpSchema("sae.encode", 1, "", (port("x", "pos", "d_model"),), outputs=(port("out", "pos", "d_sae"),))


def test_values_that_agree_give_no_problem():
    assert check_values(ENCODE, [Value((3, 4))], [Value((3, 9))], {"d_sae": 9}) == []


@pytest.mark.parametrize(
    ("inputs", "outputs", "problem"),
    [
        ([Value((3,))], [Value((3, 9))], "port 'x' wants float[pos d_model], got float32[3]"),
        (
            [Value((3, 4))],
            [Value((2, 9))],
            "output 'out' wants float[pos=3 d_sae=9], got float32[2 9]: pos is 2, but 3 in port 'x'",
        ),
        ([Value((3, 4))], [Value((3, 8))], "d_sae is 8, but 9 in the artifacts"),
        ([Value((3, 4))], [Value((3, 9), "torch.int64")], "output 'out' wants float[pos=3 d_sae=9], got int64[3 9]"),
        ([Value((3, 4))], [Value((3, 9), "torch.float64")], "output 'out' is float64, but its first floating port is"),
        ([Value((3, 4), "torch.float16")], [Value((3, 9))], "is float32, but its first floating port is float16"),
        ([Value((3, 4))], [], "returns 0 values, declares 1"),
        ([Value((3, 4))], ["text"], "output 'out' is of type str, not a tensor"),
    ],
)
def test_what_disagrees_is_named(inputs, outputs, problem):
    problems = check_values(ENCODE, inputs, outputs, {"d_sae": 9})
    assert problem in problems[0]


def test_open_axes_take_any_number_of_dimensions_but_the_same():
    axes = AxisSizes()
    declared = TensorType("any", (Dim("*batch"), Dim("d")))
    assert axes.bind("a", declared, "bool", (2, 3, 4)) == ""
    assert axes.bind("b", declared, "bool", (2, 3, 4)) == ""
    assert (
        axes.bind("c", declared, "bool", (5, 4))
        == "c wants any[*batch d=4], got bool[5 4]: *batch is [5], but was [2, 3]"
    )
    assert axes.bind("d", TensorType("any", (Dim("..."), Dim("d"))), "bool", (4,)) == ""
    assert axes.bind("e", TensorType("any", (Dim("..."), Dim("d"))), "bool", ()) != ""


def test_an_output_declared_int_is_int64():
    schema = OpSchema("a.b", 1, "", (port("x", "pos"),), outputs=(port("out", "pos", dtype="int"),))
    assert check_values(schema, [Value((3,))], [Value((3,), "torch.int64")]) == []
    problems = check_values(schema, [Value((3,))], [Value((3,), "torch.int32")])
    assert problems == ["output 'out' is int32, but Int promises int64; declare Int32"]
