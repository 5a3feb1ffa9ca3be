"""Tensors and their types, to and from the wire. Sizes are checked before anything is made from them."""

from collections.abc import Sequence
from math import prod

from interpd.graph.types import ITEM_BYTES, Dim, TensorData, TensorType
from interpd.wire.problems import Problems
from interpd.wire.v1 import tensor_pb2 as pb

DTYPE_TO_PROTO: dict[str, int] = {name: pb.Dtype.Value(f"DTYPE_{name.upper()}") for name in ITEM_BYTES}
DTYPE_FROM_PROTO: dict[int, str] = {number: name for name, number in DTYPE_TO_PROTO.items()}
FAMILY_TO_PROTO: dict[str, int] = {
    name: pb.DtypeFamily.Value(f"DTYPE_FAMILY_{name.upper()}") for name in ("float", "int", "any")
}
FAMILY_FROM_PROTO: dict[int, str] = {number: name for name, number in FAMILY_TO_PROTO.items()}

MAX_RANK = 64
"""Dimensions of a tensor, as in torch and numpy."""

MAX_ADDRESS = 2**63 - 1
"""No size, and no product of sizes, may pass what a 64-bit machine addresses."""


def dtype_from_proto(number: int, path: str, problems: Problems) -> str:
    """The dtype as torch spells it; ``uint8`` and a problem when the number means none."""
    if number not in DTYPE_FROM_PROTO:
        problems.add(path, f"dtype {number} is none of {', '.join(ITEM_BYTES)}")
    return DTYPE_FROM_PROTO.get(number, "uint8")


def shape_from_proto(sizes: Sequence[int], item_bytes: int, path: str, problems: Problems) -> tuple[int, ...]:
    """The shape; ``(0,)`` and a problem when no memory could hold it."""
    if len(sizes) > MAX_RANK:
        problems.add(path, f"a tensor has at most {MAX_RANK} dimensions, got {len(sizes)}")
        return (0,)
    if prod(max(size, 1) for size in sizes) * item_bytes > MAX_ADDRESS:
        problems.add(path, f"shape {list(sizes)} overflows a 64-bit address")
        return (0,)
    return tuple(sizes)


def tensor_to_proto(tensor: TensorData) -> pb.Tensor:
    """A message with the tensor's bytes in it."""
    return pb.Tensor(dtype=DTYPE_TO_PROTO[tensor.dtype], shape=tensor.shape, data=tensor.data)


def tensor_from_proto(proto: pb.Tensor, path: str, problems: Problems) -> TensorData:
    """The tensor; an empty one, and a problem, when dtype, shape and bytes do not belong together."""
    dtype = dtype_from_proto(proto.dtype, f"{path}.dtype", problems)
    if proto.dtype not in DTYPE_FROM_PROTO:
        return TensorData("uint8", (0,), b"")
    shape = shape_from_proto(proto.shape, ITEM_BYTES[dtype], f"{path}.shape", problems)
    expected = prod(shape) * ITEM_BYTES[dtype]
    if len(proto.data) != expected:
        problems.add(f"{path}.data", f"{dtype}{list(shape)} takes {expected} bytes, got {len(proto.data)}")
        return TensorData("uint8", (0,), b"")
    return TensorData(dtype, shape, proto.data)


def type_to_proto(kind: TensorType) -> pb.TensorType:
    """The type as a message."""
    dims = [pb.Dim(name=dim.name, size=dim.size) for dim in kind.dims]
    if kind.dtype in FAMILY_TO_PROTO:
        return pb.TensorType(family=FAMILY_TO_PROTO[kind.dtype], dims=dims)
    return pb.TensorType(dtype=DTYPE_TO_PROTO[kind.dtype], dims=dims)


def type_from_proto(proto: pb.TensorType, path: str, problems: Problems) -> TensorType:
    """The type; problems for an unset or unknown element."""
    dims = tuple(Dim(dim.name, dim.size if dim.HasField("size") else None) for dim in proto.dims)
    if proto.WhichOneof("element") == "family":
        if proto.family not in FAMILY_FROM_PROTO:
            problems.add(f"{path}.family", f"dtype family {proto.family} is none of {', '.join(FAMILY_TO_PROTO)}")
        return TensorType(FAMILY_FROM_PROTO.get(proto.family, "any"), dims)
    return TensorType(dtype_from_proto(proto.dtype, f"{path}.dtype", problems), dims)


def sized(dtype: str, shape: Sequence[int], path: str, problems: Problems) -> dict[str, object]:
    """The ``dtype`` and ``shape`` fields that several messages share, for ``build``."""
    if dtype not in DTYPE_TO_PROTO:
        problems.add(f"{path}.dtype", f"unknown dtype {dtype!r}; allowed: {', '.join(ITEM_BYTES)}")
    return {"dtype": DTYPE_TO_PROTO.get(dtype, 0), "shape": shape}
