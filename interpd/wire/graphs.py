"""Graphs and run requests to and from the wire.

Decoding trusts nothing: an unset choice, a name that is none, bytes that do not fit their shape, two outputs of one
name are all reported with their path. What needs the model (does the site exist) is ``graph/check.py``'s.
"""

import math
import re
import uuid

from interpd.graph.ir import Graph, Node, Ref, Steps
from interpd.graph.run import RunRequest
from interpd.wire.args import arg_from_proto, arg_to_proto, ref_from_proto, ref_to_proto
from interpd.wire.problems import NAME_CHARACTERS, Problems, build, checked_name
from interpd.wire.prompts import generation_from_proto, generation_to_proto, prompt_from_proto, prompt_to_proto
from interpd.wire.v1 import graph_pb2, graph_service_pb2, run_pb2

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def request_to_proto(request: RunRequest) -> graph_service_pb2.RunGraphRequest:
    """The message that asks for this run. Raises ``InvalidGraph``, ``InvalidRequest`` for what cannot be sent.

    Owner and deadline are not in it: the service knows the one, the call carries the other.
    """
    problems = Problems()
    spec = _spec_to_proto(request, problems)
    fields = {"request_id": request.run_id, "spec": spec, "keep_s": request.keep_s}
    proto = build(graph_service_pb2.RunGraphRequest, problems, "", **fields)
    problems.raise_if_any()
    return proto


def spec_to_proto(request: RunRequest) -> run_pb2.RunSpec:
    """What to run, without its id. Raises ``InvalidGraph``, ``InvalidRequest`` for what cannot be sent."""
    problems = Problems()
    proto = _spec_to_proto(request, problems)
    problems.raise_if_any()
    return proto


def _spec_to_proto(request: RunRequest, problems: Problems) -> run_pb2.RunSpec:
    prompts = [prompt_to_proto(prompt, f"prompts[{i}]", problems) for i, prompt in enumerate(request.prompts)]
    generation = None if request.generation is None else generation_to_proto(request.generation, problems)
    return build(
        run_pb2.RunSpec,
        problems,
        "",
        model=request.model,
        prompts=prompts,
        graph=_graph_to_proto(request.graph, problems),
        generation=generation,
        reproducible=request.reproducible,
        stream_tokens=request.stream_tokens,
        adapter=request.adapter,
    )


def request_from_proto(
    proto: graph_service_pb2.RunGraphRequest, *, owner: str = "local", deadline_s: float | None = None
) -> RunRequest:
    """The request; a random run id when the message brings none. Raises ``InvalidGraph``, ``InvalidRequest``."""
    problems = Problems()
    run_id = proto.request_id or uuid.uuid4().hex
    if not _RUN_ID.fullmatch(run_id):
        problems.add("request_id", f"1 to 128 letters, digits, '-' and '_' are allowed, got {run_id[:160]!r}")
    if not (math.isfinite(proto.keep_s) and proto.keep_s >= 0):
        problems.add("keep_s", f"a number of seconds, at least 0, is needed, got {proto.keep_s}")
    return _request(proto.spec, problems, run_id=run_id, keep_s=proto.keep_s, owner=owner, deadline_s=deadline_s)


def spec_from_proto(proto: run_pb2.RunSpec, *, run_id: str = "check") -> RunRequest:
    """The request that this would be, as the checker takes it. Raises ``InvalidGraph``, ``InvalidRequest``."""
    return _request(proto, Problems(), run_id=run_id, keep_s=0.0, owner="local", deadline_s=None)


def _request(
    proto: run_pb2.RunSpec, problems: Problems, *, run_id: str, keep_s: float, owner: str, deadline_s: float | None
) -> RunRequest:
    request = RunRequest(
        run_id=run_id,
        model=checked_name(proto.model, "model", problems),
        prompts=tuple(prompt_from_proto(prompt, f"prompts[{i}]", problems) for i, prompt in enumerate(proto.prompts)),
        graph=_graph_from_proto(proto.graph, problems),
        generation=generation_from_proto(proto.generation, problems) if proto.HasField("generation") else None,
        reproducible=proto.reproducible,
        stream_tokens=proto.stream_tokens,
        adapter=proto.adapter,
        owner=owner,
        keep_s=keep_s,
        deadline_s=deadline_s,
    )
    problems.raise_if_any()
    return request


def graph_to_proto(graph: Graph) -> graph_pb2.Graph:
    """The graph as a message. Raises ``InvalidGraph`` for what cannot be sent."""
    problems = Problems()
    proto = _graph_to_proto(graph, problems)
    problems.raise_if_any()
    return proto


def graph_from_proto(proto: graph_pb2.Graph) -> Graph:
    """The graph. Raises ``InvalidGraph``."""
    problems = Problems()
    graph = _graph_from_proto(proto, problems)
    problems.raise_if_any()
    return graph


def _graph_to_proto(graph: Graph, problems: Problems) -> graph_pb2.Graph:
    nodes = [_node_to_proto(node, f"graph.nodes[{i}]", problems) for i, node in enumerate(graph.nodes)]
    outputs = []
    for name, ref in graph.outputs.items():
        path = f"graph.outputs.{name}"
        outputs.append(build(graph_pb2.Output, problems, path, name=name, ref=ref_to_proto(ref, path, problems)))
    return graph_pb2.Graph(nodes=nodes, outputs=outputs)


def _node_to_proto(node: Node, path: str, problems: Problems) -> graph_pb2.Node:
    params = []
    for name, arg in node.params.items():
        at = f"{path}.params.{name}"
        params.append(build(graph_pb2.Param, problems, at, name=name, value=arg_to_proto(arg, at, problems)))
    steps = None
    if node.steps is not None:
        where = f"{path}.steps"
        steps = build(graph_pb2.Steps, problems, where, start=node.steps.start, stop=node.steps.stop)
    return build(
        graph_pb2.Node,
        problems,
        path,
        op=node.op,
        inputs=[arg_to_proto(arg, f"{path}.inputs[{i}]", problems) for i, arg in enumerate(node.inputs)],
        params=params,
        version=node.version,
        invoke=node.invoke,
        steps=steps,
        label=node.label,
    )


def _graph_from_proto(proto: graph_pb2.Graph, problems: Problems) -> Graph:
    nodes = tuple(_node_from_proto(node, f"graph.nodes[{i}]", problems) for i, node in enumerate(proto.nodes))
    outputs: dict[str, Ref] = {}
    for i, output in enumerate(proto.outputs):
        path = f"graph.outputs[{i}]"
        name = checked_name(output.name, f"{path}.name", problems)
        if name in outputs:
            problems.add(f"{path}.name", f"another output is called {name[:NAME_CHARACTERS]!r} already")
        if not output.HasField("ref"):
            problems.add(f"{path}.ref", f"output {name[:NAME_CHARACTERS]!r} refers to no node")
        outputs[name] = ref_from_proto(output.ref)
    return Graph(nodes, outputs)


def _node_from_proto(proto: graph_pb2.Node, path: str, problems: Problems) -> Node:
    version = proto.version if proto.HasField("version") else 1
    if version == 0:
        problems.add(f"{path}.version", "versions count from 1, got 0")
    if proto.label:
        checked_name(proto.label, f"{path}.label", problems)
    problems.count_arguments(len(proto.inputs) + len(proto.params))
    params = {}
    for i, param in enumerate(proto.params):
        checked_name(param.name, f"{path}.params[{i}].name", problems)
        at = f"{path}.params.{param.name[:NAME_CHARACTERS]}"
        if param.name in params:
            problems.add(at, "the parameter is given twice")
        params[param.name] = arg_from_proto(param.value, at, problems)
    return Node(
        op=checked_name(proto.op, f"{path}.op", problems),
        inputs=tuple(arg_from_proto(arg, f"{path}.inputs[{i}]", problems) for i, arg in enumerate(proto.inputs)),
        params=params,
        version=version,
        invoke=proto.invoke,
        steps=_steps_from_proto(proto.steps) if proto.HasField("steps") else None,
        label=proto.label,
    )


def _steps_from_proto(proto: graph_pb2.Steps) -> Steps:
    return Steps(proto.start, proto.stop if proto.HasField("stop") else None)
