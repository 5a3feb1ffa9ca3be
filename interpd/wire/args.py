"""Arguments of nodes (references, constants, tuples of these) to and from the wire."""

from collections.abc import Callable
from typing import Any

from interpd.graph.ir import Arg, Blob, Dots, Ref, Slice
from interpd.graph.types import ITEM_BYTES, TensorData
from interpd.wire import tensors
from interpd.wire.problems import Problems, build
from interpd.wire.v1 import graph_pb2 as pb

MAX_DEPTH = 8
"""Tuples inside tuples. An index of an index needs 2."""

_HEX = frozenset("0123456789abcdef")


def arg_to_proto(arg: Arg, path: str, problems: Problems, depth: int = 0) -> pb.Arg:
    """``arg`` as a message; a problem for what has no place in it."""
    # bool before int, of which it is a kind
    match arg:
        case None:
            return pb.Arg(null_value=0)
        case bool():
            return pb.Arg(bool_value=arg)
        case int():
            return build(pb.Arg, problems, path, int_value=arg)
        case float():
            return pb.Arg(float_value=arg)
        case str():
            return build(pb.Arg, problems, path, string_value=arg)
        case Ref():
            return pb.Arg(ref=ref_to_proto(arg, path, problems))
        case Slice():
            return pb.Arg(slice=build(pb.Slice, problems, path, start=arg.start, stop=arg.stop, step=arg.step))
        case Dots():
            return pb.Arg(dots=pb.Dots())
        case TensorData():
            return pb.Arg(tensor=tensors.tensor_to_proto(arg))
        case Blob():
            fields = tensors.sized(arg.dtype, arg.shape, path, problems)
            return pb.Arg(blob=build(pb.Blob, problems, path, digest=arg.digest, **fields))
        case tuple():
            return _tuple_to_proto(arg, path, problems, depth)
    problems.add(path, f"a {type(arg).__name__} cannot stand in a graph")
    return pb.Arg()


def _tuple_to_proto(items: tuple[Arg, ...], path: str, problems: Problems, depth: int) -> pb.Arg:
    if depth >= MAX_DEPTH:
        problems.add(path, f"tuples are nested deeper than {MAX_DEPTH}")
        return pb.Arg()
    sent = [arg_to_proto(item, f"{path}[{i}]", problems, depth + 1) for i, item in enumerate(items)]
    return pb.Arg(tuple=pb.ArgTuple(items=sent))


def arg_from_proto(proto: pb.Arg, path: str, problems: Problems, depth: int = 0) -> Arg:
    """The argument; ``None`` and a problem for a message that holds none."""
    kind = proto.WhichOneof("kind")
    if kind is None:
        problems.add(path, "holds no argument (its kind is not set, or is newer than this service)")
        return None
    if kind == "tuple":
        return _tuple_from_proto(proto.tuple, path, problems, depth)
    return _READ[kind](getattr(proto, kind), path, problems)


def _tuple_from_proto(proto: pb.ArgTuple, path: str, problems: Problems, depth: int) -> Arg:
    if depth >= MAX_DEPTH:
        problems.add(path, f"tuples are nested deeper than {MAX_DEPTH}")
        return None
    problems.count_arguments(len(proto.items))
    return tuple(arg_from_proto(item, f"{path}[{i}]", problems, depth + 1) for i, item in enumerate(proto.items))


def ref_to_proto(ref: Ref, path: str, problems: Problems) -> pb.Ref:
    """The reference as a message."""
    return build(pb.Ref, problems, path, node=ref.node, output=ref.output)


def ref_from_proto(proto: pb.Ref) -> Ref:
    """The reference; whether it points anywhere is the checker's business."""
    return Ref(proto.node, proto.output)


def _slice_from_proto(proto: pb.Slice) -> Slice:
    return Slice(*(getattr(proto, part) if proto.HasField(part) else None for part in ("start", "stop", "step")))


def _blob_from_proto(proto: pb.Blob, path: str, problems: Problems) -> Blob:
    dtype = tensors.dtype_from_proto(proto.dtype, f"{path}.dtype", problems)
    shape = tensors.shape_from_proto(proto.shape, ITEM_BYTES[dtype], f"{path}.shape", problems)
    return Blob(digest_from_proto(proto.digest, f"{path}.digest", problems), dtype, shape)


def digest_from_proto(digest: str, path: str, problems: Problems) -> str:
    """A hexadecimal SHA-256, reported when it is none."""
    if len(digest) != 64 or not _HEX.issuperset(digest):
        problems.add(path, f"a digest is 64 lower-case hexadecimal digits, got {digest[:80]!r}")
    return digest


_READ: dict[str, Callable[[Any, str, Problems], Arg]] = {
    "null_value": lambda value, path, problems: None,
    "bool_value": lambda value, path, problems: value,
    "int_value": lambda value, path, problems: value,
    "float_value": lambda value, path, problems: value,
    "string_value": lambda value, path, problems: value,
    "ref": lambda value, path, problems: ref_from_proto(value),
    "slice": lambda value, path, problems: _slice_from_proto(value),
    "dots": lambda value, path, problems: Dots(),
    "tensor": tensors.tensor_from_proto,
    "blob": _blob_from_proto,
}
