"""A real daemon, and requests that cannot run: told so, with the place, before they cost anybody anything."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from load import failure

from interpd import errors
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref
from interpd.graph.types import TensorData
from interpd.testing.daemon_process import DaemonProcess
from interpd.wire.graphs import request_to_proto

pytestmark = pytest.mark.ray

READ = Node("site.read", params={"site": "layers.2.resid_post"})
DEEP = 120
"""Messages within messages; protobuf itself reads 100."""


@pytest.fixture(scope="module")
def lab_daemon():
    """One of this file alone: its memory and time are measured, and what other tests leave behind costs both."""
    with DaemonProcess("interpd", "serve", "--port", "0", "--model", "facts") as daemon:
        yield daemon


def chain(n_nodes):
    """A read, and one addition after the other."""
    nodes = (READ, *(Node("torch.add", (Ref(i), 1.0)) for i in range(n_nodes - 1)))
    return Graph(nodes, {"value": Ref(n_nodes - 1)})


def graph_of(*nodes):
    return Graph(nodes, {"value": Ref(len(nodes) - 1)})


def site(op, name, *inputs):
    return Node(op, inputs, {"site": name})


ADD = "torch.add"
BAD_GRAPHS = {
    "cycle": (
        graph_of(READ, Node(ADD, (Ref(0), Ref(2))), Node(ADD, (Ref(1), 1.0))),
        "graph.nodes[1].inputs[1]: nodes[1], nodes[2] depend on themselves",
    ),
    "self loop": (graph_of(READ, Node(ADD, (Ref(0), Ref(1)))), "graph.nodes[1].inputs[1]: nodes[1]"),
    "dangling": (graph_of(READ, Node(ADD, (Ref(0), Ref(99)))), "graph.nodes[1].inputs[1]: node 99 does not exist"),
    "forward": (graph_of(Node(ADD, (Ref(1), 1.0)), READ, Node("torch.exp", (Ref(0),))), "graph.nodes[0].inputs[0]: "),
    "backward in depth": (
        Graph(
            (site("site.read", "layers.4.resid_post"), site("site.write", "layers.1.resid_post", Ref(0))),
            {"value": Ref(0)},
        ),
        "graph.nodes[1]: write at 'layers.1.resid_post' uses nodes[0], read at 'layers.4.resid_post'",
    ),
}


@pytest.mark.parametrize("name", BAD_GRAPHS)
def test_a_graph_that_cannot_run_is_refused_with_the_place(lab, stub, name):
    graph, text = BAD_GRAPHS[name]
    error = failure(stub.RunGraph(request_to_proto(lab.request(graph=graph))))
    assert type(error) is errors.InvalidGraph
    assert text in str(error)


def tensor(proto, dtype=1, shape=(2,), data=bytes(8)):
    found = proto.spec.graph.nodes[0].inputs.add().tensor
    found.dtype, found.data = dtype, data
    found.shape.extend(shape)


def nested(proto, depth):
    arg = proto.spec.graph.nodes[0].inputs.add()
    for _ in range(depth):
        arg = arg.tuple.items.add()
    arg.int_value = 1


def twice(proto, what):
    what(proto).append(what(proto)[0])


INPUT = "graph.nodes[0].inputs[0]"
MALFORMED = {
    "no kind": (lambda p: p.spec.graph.nodes[0].inputs.add(), f"{INPUT}: holds no argument"),
    "tuples": (lambda p: nested(p, 12), "tuples are nested deeper than 8"),
    "bytes": (lambda p: tensor(p, shape=(3,)), f"{INPUT}.data: float64[3] takes 24 bytes, got 8"),
    "sizes": (lambda p: tensor(p, shape=(1 << 31, 1 << 31)), f"{INPUT}"),
    "overflow": (lambda p: tensor(p, shape=(1 << 62, 1 << 62, 4), data=b""), f"{INPUT}.shape: "),
    "more than any size": (lambda p: tensor(p, shape=((1 << 64) - 1,)), f"{INPUT}.shape: "),
    "dtype": (lambda p: tensor(p, dtype=99), f"{INPUT}.dtype: "),
    "output twice": (lambda p: twice(p, lambda p: p.spec.graph.outputs), "graph.outputs[1].name: another output"),
    "param twice": (lambda p: twice(p, lambda p: p.spec.graph.nodes[0].params), ".params.site: the parameter is given"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_graph_that_says_nothing_is_refused_with_the_place(lab, stub, name):
    spoil, text = MALFORMED[name]
    proto = request_to_proto(lab.request())
    spoil(proto)
    error = failure(stub.RunGraph(proto))
    assert type(error) is errors.InvalidGraph
    assert text in str(error)


UNREADABLE = {
    "depth": lambda proto: nested(proto, DEEP) or proto.SerializeToString(),
    "size": lambda proto: b"\x12\xff\xff\xff\xff\x07" + proto.SerializeToString(),
    "text": lambda proto: proto.SerializeToString().replace(b"Elena", b"El\xffna"),
    "cut": lambda proto: proto.SerializeToString()[:-3],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_bytes_that_are_no_request_are_an_invalid_one(lab, channel, name):
    data = UNREADABLE[name](request_to_proto(lab.request()))
    error = failure(channel.unary_stream("/interpd.v1.GraphService/RunGraph")(data, timeout=30))
    assert type(error) is errors.InvalidRequest
    assert "are no readable interpd.v1.RunGraphRequest" in str(error)


def test_a_field_of_another_wire_type_is_none(lab, channel):
    error = failure(channel.unary_stream("/interpd.v1.GraphService/RunGraph")(b"\x10\x01", timeout=30))
    assert type(error) is errors.InvalidRequest
    assert "model: a name is needed" in str(error)


def laughs(depth, width):
    """Tuples of tuples of ... of ones."""
    return (1,) * width if depth == 1 else (laughs(depth - 1, width),) * width


# made when they are thrown: every lane imports this module
BOMBS = {
    "prompts": lambda: {"prompts": (Prompt(text="x"),) * 100_000},
    "tuples": lambda: {"graph": graph_of(READ, Node("torch.cat", (laughs(8, 5),), {"dim": 1}))},
    "tuples in tuples": lambda: {"graph": graph_of(READ, Node("torch.cat", (laughs(7, 8),), {"dim": 1}))},
    "fan out": lambda: {
        "graph": graph_of(READ, *(Node("torch.cat", ((Ref(0),) * 100,), {"dim": 1}) for _ in range(9_000)))
    },
    "growing": lambda: {
        "graph": graph_of(
            Node("torch.zeros", params={"size": (1, 4)}),
            *(Node("torch.cat", ((Ref(i),) * 3,), {"dim": 1}) for i in range(9_999)),
        )
    },
    "nodes": lambda: {"graph": chain(100_000)},
    "arguments": lambda: {"graph": graph_of(READ, Node("torch.cat", ((Ref(0),) * 300_000,), {"dim": 1}))},
    "doubling": lambda: {
        "graph": graph_of(READ, *(Node("torch.cat", ((Ref(i), Ref(i)),), {"dim": 1}) for i in range(60)))
    },
    "zeros": lambda: {"graph": graph_of(Node("torch.zeros", params={"size": (1 << 20, 1 << 20)}))},
    "outputs": lambda: {"graph": Graph((READ,), {f"o{i}": Ref(0) for i in range(2_000)})},
    "steps": lambda: {"generation": Generation(max_new_tokens=1_000_000_000)},
    "stop strings": lambda: {"generation": Generation(max_new_tokens=2, stop_strings=tuple(map(str, range(10_000))))},
    "text": lambda: {"prompts": (Prompt(text="x y " * 1_000_000),)},
}


def peak_bytes(pid):
    """The most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_too_large_is_refused_by_its_size_and_the_worker_never_sees_it(lab, stub, name):
    asked = replace(lab.request(), **BOMBS[name]())
    proto, restarts = request_to_proto(asked), lab.statistics().n_restarts
    daemon = psutil.Process(lab.daemon.pid)
    cpu_s, held = sum(daemon.cpu_times()[:2]), daemon.memory_info().rss
    Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")  # the peak is that from now on
    assert type(failure(stub.RunGraph(proto))) is errors.LimitExceeded
    cpu_s, peak = sum(daemon.cpu_times()[:2]) - cpu_s, peak_bytes(daemon.pid) - held
    print(f"{name}: {proto.ByteSize()} bytes, {1e3 * cpu_s:.0f} ms of the CPU, {peak / 1e6:.1f} MB at most")
    # the bytes lie there once as they came and once as they are read; 0.1 s is the aim
    assert peak < 64 << 20
    assert cpu_s < 2.0
    assert lab.statistics().n_restarts == restarts
    assert len(lab.value()) == 1


def test_a_message_that_is_too_large_is_refused(lab, stub):
    big = TensorData("uint8", (20 << 20,), bytes(20 << 20))
    error = failure(stub.RunGraph(request_to_proto(lab.request(graph=graph_of(Node("torch.add", (big, 1)))))))
    assert type(error) is errors.LimitExceeded


def test_one_prompt_of_a_megabyte_is_counted_and_not_run(lab):
    assert isinstance(lab.ask(prompt="Elena " * 80_000).end(), errors.CallerError)
