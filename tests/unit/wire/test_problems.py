import pytest

from interpd.errors import DataLoss, InvalidGraph, InvalidRequest
from interpd.wire.problems import MAX_PROBLEMS, Problems, build, checked_name, parse
from interpd.wire.v1 import graph_pb2, graph_service_pb2


def test_problems_of_the_graph_alone_make_an_invalid_graph():
    problems = Problems()
    problems.add("graph.nodes[3].op", "a name is needed")
    with pytest.raises(InvalidGraph) as caught:
        problems.raise_if_any()
    assert [(v.code, v.path) for v in caught.value.violations] == [("MALFORMED", "graph.nodes[3].op")]


def test_one_problem_outside_the_graph_makes_an_invalid_request_that_lists_all():
    problems = Problems()
    problems.add("graph.nodes[3].op", "a name is needed")
    problems.add("prompts[0]", "no content")
    with pytest.raises(InvalidRequest) as caught:
        problems.raise_if_any()
    assert str(caught.value) == (
        "malformed request, 2 problems:\n  graph.nodes[3].op: a name is needed\n  prompts[0]: no content"
    )
    assert caught.value.facts == {"fields": "graph.nodes[3].op, prompts[0]"}


def test_endless_problems_are_counted_and_not_kept():
    problems = Problems()
    for i in range(MAX_PROBLEMS + 50):
        problems.add(f"graph.nodes[{i}]", "bad")
    with pytest.raises(InvalidGraph) as caught:
        problems.raise_if_any()
    assert len(caught.value.violations) == MAX_PROBLEMS + 1
    assert caught.value.violations[-1].message == "50 more problems follow"


def test_no_problems_raise_nothing():
    Problems().raise_if_any()
    Problems().raise_as_data_loss("the manifest")


def test_problems_of_the_service_are_data_loss():
    problems = Problems()
    problems.add("sites.embed.type.dtype", "dtype 99 is unknown")
    with pytest.raises(DataLoss, match=r"the manifest cannot be read: .*dtype 99"):
        problems.raise_as_data_loss("the manifest")


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x12\x02\xff\xfe", b"\x0a\x02\xc3\x28"])
def test_bytes_that_are_no_message_are_an_invalid_request(data):
    with pytest.raises(InvalidRequest, match=r"are no readable interpd\.v1\.RunGraphRequest") as caught:
        parse(graph_service_pb2.RunGraphRequest, data)
    assert caught.value.facts["message_type"] == "interpd.v1.RunGraphRequest"


def test_nesting_beyond_protobufs_own_limit_is_an_invalid_request():
    data = b""
    for _ in range(200):
        data = b"\x5a" + _varint(len(data)) + data
        data = b"\x0a" + _varint(len(data)) + data
    with pytest.raises(InvalidRequest):
        parse(graph_pb2.ArgTuple, data)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def test_build_names_the_field_that_does_not_fit():
    problems = Problems()
    build(graph_pb2.Ref, problems, "graph.outputs.top", node=-1, output=0)
    with pytest.raises(InvalidGraph) as caught:
        problems.raise_if_any()
    assert caught.value.violations[0].path == "graph.outputs.top.node"


@pytest.mark.parametrize("name", ["", "a" * 257, "a\nb", "a\0b", "\u202ex"])
def test_names_are_printable_and_short(name):
    problems = Problems()
    checked_name(name, "model", problems)
    with pytest.raises(InvalidRequest, match="model: a name"):
        problems.raise_if_any()
