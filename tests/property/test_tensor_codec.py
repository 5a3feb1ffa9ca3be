"""Whatever the tensor, the argument or the damage: the same comes back, or it is refused."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpd.errors import DataLoss, InvalidGraph, InvalidRequest
from interpd.graph.ir import Blob, Dots, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.run import Result, RunRequest
from interpd.graph.types import ITEM_BYTES, TensorData
from interpd.wire import chunks
from interpd.wire.events import EventAssembler, event_to_protos
from interpd.wire.graphs import request_from_proto, request_to_proto
from interpd.wire.problems import Problems, parse
from interpd.wire.tensors import tensor_from_proto, tensor_to_proto
from interpd.wire.v1 import graph_service_pb2, tensor_pb2

SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
# drawing from all of Unicode takes a second to set up
NAMES = st.text("abXY_.09é ", min_size=1, max_size=6)
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT32 = st.integers(0, 2**32 - 1)


@st.composite
def tensors(draw):
    dtype, shape = draw(st.sampled_from(list(ITEM_BYTES))), draw(SHAPES)
    size = prod(shape) * ITEM_BYTES[dtype]
    return TensorData(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


CONSTANTS = st.one_of(
    st.none(),
    st.booleans(),
    INT64,
    st.floats(allow_nan=False),
    st.text("a\0\nß\U0001f600", max_size=4),
    st.builds(Ref, UINT32, UINT32),
    st.builds(Slice, st.none() | INT64, st.none() | INT64, st.none() | INT64),
    st.just(Dots()),
    tensors(),
    st.builds(Blob, st.just("0f" * 32), st.sampled_from(list(ITEM_BYTES)), SHAPES),
)
ARGS = st.recursive(CONSTANTS, lambda args: st.lists(args, max_size=3).map(tuple), max_leaves=6)
NODES = st.builds(
    Node,
    op=NAMES,
    inputs=st.lists(ARGS, max_size=3).map(tuple),
    params=st.dictionaries(NAMES, ARGS, max_size=3),
    version=st.integers(1, 2**32 - 1),
    invoke=UINT32,
    steps=st.none() | st.builds(Steps, UINT32, st.none() | UINT32),
    label=st.just("") | NAMES,
)
GRAPHS = st.builds(
    Graph, st.lists(NODES, max_size=3).map(tuple), st.dictionaries(NAMES, st.builds(Ref, UINT32, UINT32), max_size=3)
)


@given(tensors())
def test_a_tensor_comes_back_bit_for_bit(tensor):
    proto = tensor_pb2.Tensor.FromString(tensor_to_proto(tensor).SerializeToString())
    assert tensor_from_proto(proto, "t", Problems()) == tensor


@given(st.sampled_from(["float32", "float16", "int64", "uint8", "bool"]), SHAPES, st.randoms(use_true_random=False))
def test_a_numpy_array_comes_back_through_the_wire(dtype, shape, random):
    array = np.array([random.randrange(2) for _ in range(prod(shape))]).reshape(shape).astype(dtype).T
    proto = tensor_to_proto(TensorData.from_numpy(array))
    back = tensor_from_proto(proto, "t", Problems()).to_numpy()
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.integers(-1, 20), st.lists(st.integers(0, 2**64 - 1), max_size=5), st.binary(max_size=64))
def test_any_tensor_message_is_read_or_refused(dtype, shape, data):
    problems = Problems()
    tensor = tensor_from_proto(tensor_pb2.Tensor(dtype=dtype, shape=shape, data=data), "t", problems)
    try:
        problems.raise_if_any()
    except InvalidRequest:
        return
    assert len(tensor.data) == len(data)


@given(tensors(), st.integers(1, 7))
def test_a_result_comes_back_whatever_the_size_of_its_pieces(tensor, chunk_bytes):
    event = Result("", "h", tensor, ("",) * len(tensor.shape))
    before, chunks.CHUNK_BYTES = chunks.CHUNK_BYTES, chunk_bytes
    try:
        protos = list(event_to_protos(event, 0))
    finally:
        chunks.CHUNK_BYTES = before
    assembler = EventAssembler()
    assert [out for out in map(assembler.feed, protos) if out is not None] == [event]


@given(st.binary(min_size=1, max_size=60), st.integers(1, 9), st.data())
def test_any_single_damage_to_pieces_is_noticed(data, chunk_bytes, choose):
    before, chunks.CHUNK_BYTES = chunks.CHUNK_BYTES, chunk_bytes
    try:
        pieces = list(chunks.chunks_of(data))
    finally:
        chunks.CHUNK_BYTES = before
    at = choose.draw(st.integers(0, len(pieces) - 1))
    byte = choose.draw(st.integers(0, len(pieces[at].data) - 1))
    damaged = bytearray(pieces[at].data)
    damaged[byte] ^= choose.draw(st.integers(1, 255))
    pieces[at].data = bytes(damaged)
    assembler = chunks.ByteAssembler(len(data), 1 << 20, "x")
    try:
        whole = [out for out in map(assembler.feed, pieces) if out is not None]
    except DataLoss:
        return
    raise AssertionError(f"the damage came through: {whole}")


@given(GRAPHS)
@settings(max_examples=60)
def test_any_graph_comes_back(graph):
    request = RunRequest("r", "m", (Prompt(text="a"),), graph)
    data = request_to_proto(request).SerializeToString()
    assert request_from_proto(graph_service_pb2.RunGraphRequest.FromString(data)) == request


@pytest.mark.slow
@given(GRAPHS, st.data())
@settings(max_examples=60)
def test_damaged_requests_are_read_or_refused_and_nothing_else(graph, choose):
    data = bytearray(request_to_proto(RunRequest("r", "m", (Prompt(text="a"),), graph)).SerializeToString())
    for _ in range(choose.draw(st.integers(1, 4))):
        data[choose.draw(st.integers(0, len(data) - 1))] = choose.draw(st.integers(0, 255))
    try:
        request_from_proto(parse(graph_service_pb2.RunGraphRequest, bytes(data)))
    except (InvalidGraph, InvalidRequest):
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(data):
    try:
        request_from_proto(parse(graph_service_pb2.RunGraphRequest, data))
    except (InvalidGraph, InvalidRequest):
        return
