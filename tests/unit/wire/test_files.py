"""Graphs in files."""

import pytest

from interpd.errors import InvalidGraph, InvalidRequest
from interpd.graph.ir import Dots, Graph, Node, Ref, Slice
from interpd.graph.types import TensorData
from interpd.wire.files import graph_from_json, graph_to_json

GRAPH = Graph(
    (
        Node("site.read", params={"site": "embed", "positions": (-1, 0)}, label="h"),
        Node("tensor.getitem", (Ref(0), (Dots(), Slice(1, None), None, 3))),
        Node("torch.add", (Ref(1), TensorData("float32", (1,), b"\0\0\0\0")), {"alpha": 2.5}),
    ),
    {"x": Ref(2)},
)


def test_a_graph_comes_back_from_its_file():
    assert graph_from_json(graph_to_json(GRAPH)) == GRAPH


def test_a_file_that_holds_no_graph_says_what_is_wrong():
    with pytest.raises(InvalidRequest, match='no field named "nods"'):
        graph_from_json('{"nods": []}')


def test_a_graph_that_says_nothing_where_it_must_is_refused_with_the_path():
    with pytest.raises(InvalidGraph, match=r"graph\.nodes\[0\]\.inputs\[0\]"):
        graph_from_json('{"nodes": [{"op": "torch.abs", "inputs": [{}]}]}')
