"""jaxtyping annotations read as ports and constants: the annotation is the schema.

``Float[Tensor, "batch pos d_model"]`` is read as data (its word for the dtype and its axis string), so nothing
here needs torch. A leading ``*words`` or ``...`` stands for any number of dimensions and becomes the dimension of
that name; ``_`` is a dimension without a name; a number is a fixed size.
"""

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Sequence

import jaxtyping

from interpd.graph.schema import ParamSchema, PortSchema
from interpd.graph.types import Dim, TensorType

DTYPE_WORDS: dict[str, str] = {
    "Float": "float",
    "Int": "int",
    "Bool": "bool",
    "Shaped": "any",
    "Float64": "float64",
    "Float32": "float32",
    "Float16": "float16",
    "BFloat16": "bfloat16",
    "Int64": "int64",
    "Int32": "int32",
    "Int16": "int16",
    "Int8": "int8",
    "UInt8": "uint8",
}
"""jaxtyping's words for dtypes, and ours."""

EXAMPLE = 'Float[Tensor, "batch pos d_model"]'

_AXIS = re.compile(r"(?:(?P<name>[a-z_][a-z0-9_]*)=)?(?P<size>\d+)|(?P<word>\*?[a-z_][a-z0-9_]*)|\.\.\.", re.IGNORECASE)
_CONST_KINDS: dict[object, str] = {int: "int", float: "float", bool: "bool", str: "str"}
_TUPLE_KINDS: dict[object, str] = {int: "ints", float: "floats", str: "strs"}


class BadAnnotation(TypeError):
    """An annotation that is not a schema; the message says what to write."""


T = typing.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Recomputed(typing.Generic[T]):
    """A value of the graph that a method has computed anew in each of its passes.

    As an annotation, ``target: Recomputed[Float[Tensor, "..."]]``, it declares such a port of a method. What the method
    gets is not the value but this handle, to be given to ``Session.forward`` in ``values``.
    """

    port: str
    """The name of the port."""
    number: int = 0
    """Which one, of a port that takes several values."""


def is_tensor(annotation: object) -> bool:
    """Whether ``annotation`` is a jaxtyping one."""
    return isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray)


def tensor_type(annotation: typing.Any) -> TensorType:
    """The type that a jaxtyping annotation describes."""
    word = annotation.dtype.__name__
    if word not in DTYPE_WORDS:
        raise BadAnnotation(f"dtype {word!r} is not a dtype of graphs; write one of {', '.join(DTYPE_WORDS)}")
    dims = tuple(_dim(axis, annotation.dim_str) for axis in annotation.dim_str.split())
    if sum(dim.name.startswith(("*", "...")) for dim in dims) > 1:
        raise BadAnnotation(f"axes {annotation.dim_str!r} have two open ends; keep one '*name' or '...'")
    return TensorType(DTYPE_WORDS[word], dims)


def _dim(axis: str, axes: str) -> Dim:
    match = _AXIS.fullmatch(axis)
    if match is None:
        raise BadAnnotation(
            f"axis {axis!r} of {axes!r} is not a name, a number, '_', '*name' or '...'; name the axis and say in the "
            "docstring how its size follows from the others"
        )
    if match["size"] is not None:
        return Dim(match["name"] or "", int(match["size"]))
    return Dim("" if axis == "_" else axis)


def port(name: str, annotation: object, default: object = inspect.Parameter.empty) -> PortSchema:
    """The port that a positional parameter (or one output) declares."""
    parts = _union_parts(annotation)
    tensors = [part for part in parts if _is_value(part) or _is_variadic(part)]
    rest = [part for part in parts if part not in tensors and part is not type(None)]
    if len(tensors) != 1 or any(part not in (int, float) for part in rest):
        raise BadAnnotation(f"{_shown(annotation)} is no port; write {name}: {EXAMPLE}")
    optional = type(None) in parts
    if default is not inspect.Parameter.empty and default is not None:
        raise BadAnnotation("has a default that is not None; a port is a value or absent")
    if optional != (default is None):
        raise BadAnnotation("is optional by half; write both '| None' and '= None', or neither")
    variadic = _is_variadic(tensors[0])
    inner = typing.get_args(tensors[0])[0] if variadic else tensors[0]
    recomputed = _is_recomputed(inner)
    if recomputed and rest:
        raise BadAnnotation(f"is recomputed or a number; a number stays what it is: write {name}: {_shown(inner)}")
    kind = tensor_type(typing.get_args(inner)[0] if recomputed else inner)
    facts = {"variadic": variadic, "optional": optional, "recomputed": recomputed}
    return PortSchema(name, kind, allows_const=bool(rest), **facts)


def _is_variadic(annotation: object) -> bool:
    args = typing.get_args(annotation)
    return typing.get_origin(annotation) is tuple and len(args) == 2 and args[1] is Ellipsis and _is_value(args[0])


def _is_value(annotation: object) -> bool:
    return is_tensor(annotation) or _is_recomputed(annotation)


def _is_recomputed(annotation: object) -> bool:
    return typing.get_origin(annotation) is Recomputed and is_tensor(typing.get_args(annotation)[0])


def outputs(annotation: object) -> tuple[PortSchema, ...]:
    """The output ports of a return annotation: one tensor, a tuple of tensors, or a frozen dataclass of tensors."""
    if is_tensor(annotation):
        return (PortSchema("out", tensor_type(annotation)),)
    if typing.get_origin(annotation) is tuple and (args := typing.get_args(annotation)) and all(map(is_tensor, args)):
        return tuple(PortSchema(f"out{i}", tensor_type(arg)) for i, arg in enumerate(args))
    if is_frozen_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        fields = [(field.name, hints[field.name]) for field in dataclasses.fields(annotation)]  # type: ignore[arg-type]
        if fields and all(is_tensor(hint) for _, hint in fields):
            return tuple(PortSchema(name, tensor_type(hint)) for name, hint in fields)
    raise BadAnnotation(
        f"returns {_shown(annotation)}; write -> {EXAMPLE}, a tuple of these, or a frozen dataclass with such fields"
    )


def is_frozen_dataclass(annotation: object) -> bool:
    """Whether ``annotation`` is a dataclass with ``frozen=True``."""
    params = getattr(annotation, "__dataclass_params__", None)
    return isinstance(annotation, type) and params is not None and params.frozen


def param(name: str, annotation: object, default: object, doc: str = "") -> ParamSchema:
    """The constant or artifact that a keyword-only parameter declares."""
    required = default is inspect.Parameter.empty
    parts = _union_parts(annotation)
    optional = type(None) in parts
    inner = [part for part in parts if part is not type(None)]
    if len(inner) != 1:
        raise BadAnnotation(f"{_shown(annotation)} is no constant; write one of {_CONSTANTS}")
    kind, choices = _const_kind(name, inner[0])
    if optional and default is not None:
        raise BadAnnotation("may be None but its default is not; write '= None'")
    value = None if required else default
    if not required and not (optional and value is None) and not constant_fits(kind, choices, value):
        raise BadAnnotation(f"default {value!r} is not {_kind_text(kind, choices)}")
    return ParamSchema(name, kind, required=required, default=value, choices=choices, doc=doc)


_CONSTANTS = "int, float, bool, str, Literal[...], tuple[int, ...] or a class marked @artifact"


def _const_kind(name: str, annotation: object) -> tuple[str, tuple[object, ...]]:
    schema = getattr(annotation, "schema", None)
    if isinstance(annotation, type) and hasattr(schema, "kind") and hasattr(schema, "fields"):
        return f"artifact:{schema.kind}", ()
    if isinstance(annotation, typing.Hashable) and annotation in _CONST_KINDS:
        return _CONST_KINDS[annotation], ()
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "literal", args
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis and args[0] in _TUPLE_KINDS:
        return _TUPLE_KINDS[args[0]], ()
    if is_tensor(annotation):
        raise BadAnnotation("is a tensor behind the '*'; tensors are ports: move it before the '*'")
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        values = ", ".join(repr(member.value) for member in annotation)
        raise BadAnnotation(f"is an Enum, which the wire does not carry; write {name}: Literal[{values}]")
    raise BadAnnotation(f"{_shown(annotation)} is no constant; write one of {_CONSTANTS}")


def constant_fits(kind: str, choices: Sequence[object], value: object) -> bool:
    """Whether ``value`` is a constant of ``kind`` (an ``int`` may stand for a ``float``; a ``bool`` is no number)."""
    if kind == "literal":
        return any(value == choice and type(value) is type(choice) for choice in choices)
    if kind in ("ints", "floats", "strs"):
        return isinstance(value, tuple) and all(constant_fits(kind[:-1], (), item) for item in value)
    if kind == "int":
        return type(value) is int
    if kind == "float":
        return type(value) in (int, float)
    return {"bool": bool, "str": str}.get(kind) is type(value)


def _kind_text(kind: str, choices: Sequence[object]) -> str:
    return f"one of {', '.join(map(repr, choices))}" if choices else f"of kind {kind}"


def _union_parts(annotation: object) -> tuple[object, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _shown(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
