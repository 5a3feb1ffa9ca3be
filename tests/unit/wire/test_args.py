import pytest

from interpd.errors import InvalidGraph, InvalidRequest, LimitExceeded
from interpd.graph.ir import Blob, Dots, Ref, Slice
from interpd.graph.types import TensorData
from interpd.wire.args import MAX_DEPTH, arg_from_proto, arg_to_proto
from interpd.wire.problems import Problems
from interpd.wire.v1 import graph_pb2 as pb
from interpd.wire.v1 import tensor_pb2

PATH = "graph.nodes[0].inputs[0]"
ARGS = [
    None,
    True,
    0,
    -(2**63),
    1.5,
    float("-inf"),
    "relu",
    "",
    Ref(3, 1),
    Slice(None, -1, 2),
    Slice(),
    Slice(0, 0, 0),
    Dots(),
    TensorData("int64", (2,), bytes(16)),
    Blob("ab" * 32, "bfloat16", (4096, 16)),
    (),
    (1, (2.0, None), (Ref(0), (Slice(), Dots()))),
]


def nested(depth):
    return () if depth == 1 else (nested(depth - 1),)


def encoded(arg):
    problems = Problems()
    proto = arg_to_proto(arg, PATH, problems)
    problems.raise_if_any()
    return pb.Arg.FromString(proto.SerializeToString())


def decoded(proto):
    problems = Problems()
    arg = arg_from_proto(proto, PATH, problems)
    problems.raise_if_any()
    return arg


@pytest.mark.parametrize("arg", ARGS, ids=repr)
def test_every_kind_of_argument_comes_back_as_itself(arg):
    back = decoded(encoded(arg))
    assert back == arg
    assert type(back) is type(arg)


@pytest.mark.parametrize("arg", [2**63, -(2**63) - 1, "\ud800", [1], 1 + 2j, {"a": 1}, b"x", Ref(-1), Slice(2**70)])
def test_what_has_no_place_in_a_graph_is_refused_with_its_path(arg):
    with pytest.raises(InvalidGraph) as caught:
        encoded(arg)
    assert caught.value.violations[0].path.startswith(PATH)


def test_tuples_nest_eight_deep_and_no_deeper():
    assert decoded(encoded(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(InvalidGraph, match="nested deeper than 8") as caught:
        encoded(nested(MAX_DEPTH + 1))
    assert caught.value.violations[0].path == PATH + "[0]" * MAX_DEPTH


def test_a_received_tuple_that_nests_deeper_is_refused_with_its_path():
    proto = pb.Arg(int_value=1)
    for _ in range(20):
        proto = pb.Arg(tuple=pb.ArgTuple(items=[proto]))
    with pytest.raises(InvalidGraph, match="nested deeper than 8"):
        decoded(proto)


def test_more_arguments_than_any_graph_may_have_are_not_read():
    laughs = pb.Arg(int_value=1)
    for _ in range(MAX_DEPTH):
        laughs = pb.Arg(tuple=pb.ArgTuple(items=[laughs] * 5))
    with pytest.raises(LimitExceeded, match="more than 100000 arguments"):
        decoded(laughs)


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (pb.Arg(), "holds no argument"),
        (pb.Arg(blob=pb.Blob(digest="AB" * 32, dtype=1)), "64 lower-case hexadecimal digits"),
        (pb.Arg(blob=pb.Blob(digest="ab" * 32, dtype=0)), "dtype 0 is none of"),
        (pb.Arg(blob=pb.Blob(digest="ab" * 32, dtype=1, shape=[2**62])), "overflows"),
        (pb.Arg(tensor=tensor_pb2.Tensor(dtype=1, shape=[1])), "takes 8 bytes, got 0"),
    ],
)
def test_malformed_arguments_are_refused(proto, message):
    with pytest.raises(InvalidGraph, match=message):
        decoded(proto)


def test_an_argument_of_a_kind_that_is_newer_than_this_service_is_refused():
    unknown_field = b"\xfa\x01\x01x"
    with pytest.raises(InvalidGraph, match="newer than this service"):
        decoded(pb.Arg.FromString(unknown_field))


def test_outside_the_graph_the_same_problem_is_an_invalid_request():
    problems = Problems()
    arg_from_proto(pb.Arg(), "ops.a.params[0].default_value", problems)
    with pytest.raises(InvalidRequest):
        problems.raise_if_any()
