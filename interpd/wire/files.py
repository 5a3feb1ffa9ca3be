"""Graphs in files: the protocol's own JSON, so that any language can write one for ``interpd check`` and ``run``."""

from google.protobuf import json_format

from interpd.errors import InvalidRequest
from interpd.graph.ir import Graph
from interpd.wire.graphs import graph_from_proto, graph_to_proto
from interpd.wire.v1 import graph_pb2


def graph_to_json(graph: Graph) -> str:
    """The graph as the JSON form of ``interpd.v1.Graph``. Raises ``InvalidGraph`` for what cannot be written."""
    return json_format.MessageToJson(graph_to_proto(graph), preserving_proto_field_name=True)


def graph_from_json(text: str) -> Graph:
    """The graph that ``text`` holds. Raises ``InvalidRequest`` for no such JSON, ``InvalidGraph`` for no such graph."""
    try:
        proto = json_format.Parse(text, graph_pb2.Graph(), max_recursion_depth=60)
    except json_format.ParseError as error:
        raise InvalidRequest(f"not a graph in the JSON form of interpd.v1.Graph: {error}") from None
    return graph_from_proto(proto)
