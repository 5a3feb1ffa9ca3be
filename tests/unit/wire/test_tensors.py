import pytest

from interpd.errors import InvalidRequest
from interpd.graph.types import ITEM_BYTES, Dim, TensorData, TensorType
from interpd.wire.problems import Problems
from interpd.wire.tensors import tensor_from_proto, tensor_to_proto, type_from_proto, type_to_proto
from interpd.wire.v1 import tensor_pb2 as pb


def refused(proto: pb.Tensor) -> str:
    problems = Problems()
    tensor_from_proto(proto, "t", problems)
    with pytest.raises(InvalidRequest) as caught:
        problems.raise_if_any()
    return str(caught.value)


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_every_dtype_comes_back(dtype):
    tensor = TensorData(dtype, (2, 3), bytes(range(6 * ITEM_BYTES[dtype])))
    proto = pb.Tensor.FromString(tensor_to_proto(tensor).SerializeToString())
    assert tensor_from_proto(proto, "t", Problems()) == tensor


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_scalars_and_empty_tensors_come_back(shape):
    tensor = TensorData("int8", shape, b"" if 0 in shape else b"x")
    assert tensor_from_proto(tensor_to_proto(tensor), "t", Problems()) == tensor


def test_bytes_that_do_not_fit_the_shape_are_refused():
    proto = pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2, 2], data=b"1234")
    assert refused(proto) == "malformed request: t.data: float32[2, 2] takes 16 bytes, got 4"


@pytest.mark.parametrize("shape", [[2**63], [2**32, 2**32], [0, 2**63], [2**64 - 1] * 60])
def test_sizes_that_overflow_are_refused_before_anything_is_allocated(shape):
    assert "overflows a 64-bit address" in refused(pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=shape))


def test_more_dimensions_than_torch_has_are_refused():
    assert "at most 64 dimensions, got 100000" in refused(
        pb.Tensor(dtype=pb.DTYPE_INT8, shape=[1] * 100_000, data=b"x")
    )


@pytest.mark.parametrize("number", [0, 99])
def test_unknown_dtypes_are_refused(number):
    assert f"t.dtype: dtype {number} is none of float64" in refused(pb.Tensor(dtype=number, data=b"x"))


@pytest.mark.parametrize("dtype", ["float", "int", "any", "bfloat16"])
def test_types_and_families_come_back(dtype):
    kind = TensorType(dtype, (Dim("batch", 1), Dim("pos"), Dim("", 0)))
    assert type_from_proto(type_to_proto(kind), "t", Problems()) == kind


@pytest.mark.parametrize("proto", [pb.TensorType(), pb.TensorType(dtype=77), pb.TensorType(family=9)])
def test_types_without_a_known_element_are_refused(proto):
    problems = Problems()
    type_from_proto(proto, "t", problems)
    with pytest.raises(InvalidRequest, match="is none of"):
        problems.raise_if_any()
