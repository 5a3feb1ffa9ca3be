import dataclasses

import pytest

from interpd.errors import InvalidGraph, InvalidRequest
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.run import RunRequest
from interpd.wire.graphs import (
    graph_from_proto,
    graph_to_proto,
    request_from_proto,
    request_to_proto,
    spec_from_proto,
    spec_to_proto,
)
from interpd.wire.v1 import graph_pb2, graph_service_pb2, prompt_pb2, run_pb2

GRAPH = Graph(
    nodes=(
        Node("site.read", params={"site": "layers.3.resid_post", "positions": (-1,)}, invoke=1, label="h"),
        Node("tensor.getitem", (Ref(0), (Slice(), -1))),
        Node("torch.topk", (Ref(1),), {"k": 5, "dim": -1}, version=2, steps=Steps(1, 4)),
        Node("site.write", (Ref(2, 1),), {"site": "logits"}, steps=Steps(2)),
    ),
    outputs={"values": Ref(2), "ids": Ref(2, 1)},
)
REQUEST = RunRequest(
    run_id="run-1",
    model="facts",
    prompts=(
        Prompt(text="Elena was born in", add_special_tokens=False),
        Prompt(messages=(("system", ""), ("user", "hi"))),
        Prompt(messages=(("user", "hi"),), add_generation_prompt=False),
        Prompt(messages=(("user", "hi"), ("assistant", "He")), continue_final_message=True),
        Prompt(token_ids=(0, 2**31)),
        Prompt(text="a", target_text=""),
        Prompt(token_ids=(1,), target_ids=(0, 7)),
    ),
    graph=GRAPH,
    generation=Generation(7, True, 0.7, 5, 0.9, -3, ("\n", "."), (1, 2), True),
    reproducible=True,
    stream_tokens=True,
    adapter="french",
    keep_s=30.0,
)
PLAIN = RunRequest("r", "m", (Prompt(text=""),), Graph((), {}), Generation(1))


def violations(proto):
    with pytest.raises(InvalidGraph) as caught:
        graph_from_proto(proto)
    return [(v.path, v.message) for v in caught.value.violations]


@pytest.mark.parametrize("request_", [REQUEST, PLAIN], ids=["everything set", "everything left out"])
def test_a_request_comes_back(request_):
    proto = graph_service_pb2.RunGraphRequest.FromString(request_to_proto(request_).SerializeToString())
    assert request_from_proto(proto) == request_


def test_owner_and_deadline_come_from_the_service_and_not_from_the_message():
    back = request_from_proto(request_to_proto(REQUEST), owner="ada", deadline_s=12.5)
    assert back == dataclasses.replace(REQUEST, owner="ada", deadline_s=12.5)


def test_a_spec_comes_back_without_its_id():
    back = spec_from_proto(spec_to_proto(REQUEST))
    assert back == dataclasses.replace(REQUEST, run_id="check", keep_s=0.0)


def test_the_order_of_params_and_outputs_is_kept():
    back = graph_from_proto(graph_to_proto(GRAPH))
    assert list(back.outputs) == ["values", "ids"]
    assert list(back.nodes[2].params) == ["k", "dim"]


def test_a_request_without_an_id_gets_a_random_one():
    proto = graph_service_pb2.RunGraphRequest(spec=run_pb2.RunSpec(model="m"))
    assert len({request_from_proto(proto).run_id for _ in range(3)}) == 3


def test_every_problem_of_a_graph_is_reported_at_once():
    proto = graph_pb2.Graph(
        nodes=[
            graph_pb2.Node(op="", inputs=[graph_pb2.Arg()], version=0, label="a\nb"),
            graph_pb2.Node(op="x.y", params=[graph_pb2.Param(name="k", value=graph_pb2.Arg(int_value=1))] * 2),
        ],
        outputs=[graph_pb2.Output(name="a"), graph_pb2.Output(name="a", ref=graph_pb2.Ref())],
    )
    assert violations(proto) == [
        ("graph.nodes[0].version", "versions count from 1, got 0"),
        ("graph.nodes[0].label", "a name has printable characters only, got 'a\\nb'"),
        ("graph.nodes[0].op", "a name is needed, got an empty text"),
        (
            "graph.nodes[0].inputs[0]",
            "holds no argument (its kind is not set, or is newer than this service)",
        ),
        ("graph.nodes[1].params.k", "the parameter is given twice"),
        ("graph.outputs[0].ref", "output 'a' refers to no node"),
        ("graph.outputs[1].name", "another output is called 'a' already"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request_id": "../etc"}, "request_id: 1 to 128 letters"),
        ({"request_id": "x" * 129}, "request_id: 1 to 128 letters"),
        ({"keep_s": float("nan")}, "keep_s: a number of seconds"),
        ({"keep_s": float("inf")}, "keep_s: a number of seconds"),
        ({"keep_s": -1.0}, "keep_s: a number of seconds"),
        ({"spec": run_pb2.RunSpec(model="")}, "model: a name is needed"),
        ({"spec": run_pb2.RunSpec(model="m", prompts=[prompt_pb2.Prompt()])}, r"prompts\[0\]: one of text, chat"),
        (
            {"spec": run_pb2.RunSpec(model="m", generation=prompt_pb2.Generation(temperature=float("nan")))},
            "generation.temperature: a finite number is needed, got nan",
        ),
    ],
)
def test_a_request_malformed_outside_its_graph_is_refused(change, message):
    proto = graph_service_pb2.RunGraphRequest(request_id="r", spec=run_pb2.RunSpec(model="m"))
    proto.MergeFrom(graph_service_pb2.RunGraphRequest(**change))
    if "spec" in change:
        proto.spec.CopyFrom(change["spec"])
    with pytest.raises(InvalidRequest, match=message):
        request_from_proto(proto)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"graph": Graph((Node("a.b", invoke=-1),), {})}, "graph.nodes[0].invoke"),
        ({"graph": Graph((Node("a.b", steps=Steps(-1)),), {})}, "graph.nodes[0].steps.start"),
        ({"graph": Graph((), {"a": Ref(-1)})}, "graph.outputs.a.node"),
        ({"graph": Graph((Node("a.b", params={"k": 2**80}),), {})}, "graph.nodes[0].params.k.int_value"),
    ],
)
def test_a_graph_that_cannot_be_sent_is_refused_where_it_is_made(change, path):
    with pytest.raises(InvalidGraph) as caught:
        request_to_proto(dataclasses.replace(REQUEST, **change))
    assert [v.path for v in caught.value.violations] == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": (Prompt(),)}, r"prompts\[0\]: exactly one of text, messages and token_ids is needed, got none"),
        ({"prompts": (Prompt(text="a", token_ids=(1,)),)}, "got text and token_ids"),
        ({"prompts": (Prompt(text="a", target_text="b", target_ids=()),)}, "at most one of target_text and target_ids"),
        ({"prompts": (Prompt(text="a", target_ids=(-1,)),)}, r"prompts\[0\].target_ids.ids: cannot be sent"),
        ({"prompts": (Prompt(token_ids=(-1,)),)}, r"prompts\[0\].ids: cannot be sent"),
        ({"generation": Generation(-5)}, "generation.max_new_tokens: cannot be sent"),
        ({"run_id": "\ud800"}, "request_id: cannot be sent"),
        ({"model": "\ud800"}, "model: cannot be sent"),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused_where_it_is_made(change, message):
    with pytest.raises(InvalidRequest, match=message):
        request_to_proto(dataclasses.replace(REQUEST, **change))
