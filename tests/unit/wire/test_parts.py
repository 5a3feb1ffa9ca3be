"""Messages that are small on the wire and large in memory."""

import pytest

from interpd.errors import InvalidRequest, LimitExceeded
from interpd.graph.ir import Graph, Node, Prompt, Ref, Slice
from interpd.graph.run import RunRequest
from interpd.graph.types import TensorData
from interpd.wire import problems
from interpd.wire.graphs import request_to_proto
from interpd.wire.parts import crowded_field
from interpd.wire.problems import parse
from interpd.wire.v1 import artifact_service_pb2, graph_pb2, tensor_pb2
from interpd.wire.v1.graph_service_pb2 import RunGraphRequest

KIND = RunGraphRequest.DESCRIPTOR
MANY = 300_000


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(message, name, content):
    """A field that holds ``content``, as bytes."""
    return varint(message.DESCRIPTOR.fields_by_name[name].number << 3 | 2) + varint(len(content)) + content


def in_spec(**contents):
    spec = RunGraphRequest.DESCRIPTOR.fields_by_name["spec"].message_type._concrete_class
    return field(RunGraphRequest, "spec", b"".join(field(spec, name, content) for name, content in contents.items()))


EMPTY_NODE = field(graph_pb2.Graph, "nodes", b"")
EMPTY_INPUT = field(graph_pb2.Node, "inputs", b"")


def laughs(depth):
    """A tuple of tuples of ... of five ones."""
    content = field(graph_pb2.ArgTuple, "items", b"\x18\x01") * 5
    for _ in range(depth - 1):
        content = field(graph_pb2.ArgTuple, "items", field(graph_pb2.Arg, "tuple", content)) * 5
    return field(graph_pb2.Arg, "tuple", content)


BOMBS = {
    "nodes": in_spec(graph=EMPTY_NODE * MANY),
    "inputs": in_spec(graph=field(graph_pb2.Graph, "nodes", EMPTY_INPUT * MANY)),
    "a few inputs of each node": in_spec(graph=field(graph_pb2.Graph, "nodes", EMPTY_INPUT * 30) * 60_000),
    "many inputs of each node": in_spec(graph=field(graph_pb2.Graph, "nodes", EMPTY_INPUT * 60) * 10_000),
    "outputs": in_spec(graph=field(graph_pb2.Graph, "outputs", b"") * MANY),
    "tuples of tuples": in_spec(graph=field(graph_pb2.Graph, "nodes", field(graph_pb2.Node, "inputs", laughs(8)))),
    "after a group": b"\x0b\x0c" + in_spec(graph=EMPTY_NODE * MANY),
}


@pytest.mark.parametrize("name", BOMBS)
def test_many_small_messages_are_seen_before_they_are_read(name):
    with pytest.raises(
        LimitExceeded,
        match=r"bytes has more than 200000 parts, seen at (Arg|ArgTuple|Graph|Node|RunSpec)\.\w+: send less",
    ):
        parse(RunGraphRequest, BOMBS[name])


def chain(n_nodes, *inputs):
    nodes = (Node("site.read", (), {"site": "layers.3.resid_post", "positions": (0, -1)}),)
    nodes += tuple(Node("torch.add", (Ref(i), *inputs), {"alpha": 0.5}, label=f"sum {i}") for i in range(n_nodes - 1))
    return RunRequest("r", "m", (Prompt(text="x"),), Graph(nodes, {"x": Ref(0)}))


@pytest.mark.parametrize(
    "inputs", [(1.0,), (Ref(0), (Slice(0, 3), -1), 2.5, "words", None, 7, 7)], ids=["short", "long"]
)
def test_a_graph_of_the_largest_size_is_read(inputs):
    message = request_to_proto(chain(10_000, *inputs))
    assert parse(RunGraphRequest, message.SerializeToString()) == message


def test_bytes_are_no_parts():
    constant = TensorData("uint8", (3 << 20,), bytes(3 << 20))
    graph = Graph((Node("torch.abs", (constant,)),), {"x": Ref(0)})
    data = request_to_proto(RunRequest("r", "m", (), graph)).SerializeToString()
    assert not crowded_field(KIND, data)
    chunk = tensor_pb2.Chunk(data=bytes(1 << 20))
    upload = artifact_service_pb2.UploadBlobRequest(chunk=chunk)
    assert not crowded_field(upload.DESCRIPTOR, upload.SerializeToString())


def test_bytes_that_end_too_early_are_no_message():
    data = request_to_proto(chain(10_000, 1.0)).SerializeToString()
    for n_bytes in (len(data) - 1, len(data) - 9, 300_000):
        assert not crowded_field(KIND, data[:n_bytes])
        with pytest.raises(InvalidRequest):
            parse(RunGraphRequest, data[:n_bytes])


def test_small_messages_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(problems, "crowded_field", lambda *_: pytest.fail("it was looked at"))
    parse(RunGraphRequest, request_to_proto(chain(100, 1.0)).SerializeToString())
