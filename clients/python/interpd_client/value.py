"""Symbolic values: what an expression in a trace stands for until the model has run.

Operators and methods are those of torch and are looked up in the model's table of operations, so ``x.softmax(-1)``
records ``torch.softmax``. Nothing is computed here.
"""

import functools
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from interpd.graph.bind import bind
from interpd.graph.ir import Arg, Dots, Ref, Slice
from interpd.graph.types import TensorType
from interpd_client.constants import array_constant, dtype_name, is_array, scalar
from interpd_client.habits import HABITS, ON_THE_DEVICE, names_a_device
from interpd_client.indices import index_arg, is_one_table, refuse_other_side, without_masks
from interpd_client.names import UnknownName, nearest_names
from interpd_client.opaque import Opaque
from interpd_client.recording import Recording
from interpd_client.torch_names import ALIASES, in_one_form

FAMILIES = ("torch.", "tensor.")
"""Families whose operations are methods of every value."""

CASTS: Mapping[str, str] = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "bfloat16": "bfloat16",
    "long": "int64",
    "int": "int32",
    "bool": "bool",
}
"""torch's methods that only cast."""

OTHER_METHODS = frozenset({name.removeprefix("torch.") for name in (*ALIASES, "torch.norm") if name.count(".") == 1})
"""Methods whose operation has another name."""


class Value(Opaque):
    """A tensor that exists only while the model runs.

    Operators, indexing and methods work as on a torch tensor and give new values; ``x[...] = v`` makes ``x`` stand
    for the changed tensor. Python cannot look inside: ``if``, ``len`` and numpy functions raise ``TypeError``.
    """

    __slots__ = ("_recording", "_ref")

    def __init__(self, recording: Recording, ref: Ref) -> None:
        self._recording = recording
        self._ref = ref

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in CASTS:
            return lambda: self.to(CASTS[name])
        ops = self._recording.manifest.ops
        if name in OTHER_METHODS:
            return lambda *args, **kwargs: self._call(f"torch.{name}", self, *args, **kwargs)
        for op in (family + name for family in FAMILIES):
            if op in ops:
                return lambda *args, **kwargs: self._call(op, self, *args, **kwargs)
        if name in HABITS:
            raise UnknownName(f"a symbolic value has no {name!r}: {HABITS[name]}", name=name)
        raise UnknownName(f"a value has no method {name!r}", name=name, nearest=nearest_names(name, self.__dir__()))

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *method_names(self._recording.manifest.ops), *CASTS, *OTHER_METHODS})

    def __repr__(self) -> str:
        node = self._recording.nodes[self._ref.node]
        where = f" at {node.params['site']!r}" if "site" in node.params else ""
        return f"<value of {node.op}{where}, {self._recording.places[self._ref.node]}>"

    def _call(self, op: str, *args: object, **kwargs: object) -> Any:
        return apply(self._recording, op, args, kwargs)

    @property
    def type(self) -> TensorType:
        """The dtype and named dimensions, as far as they are known before the run."""
        return self._recording.type_of(self._ref)

    @property
    def dtype(self) -> str:
        """The name of the dtype, as in ``x.to(h.dtype)``."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The size of each dimension; ``None`` where it depends on the tokenised prompt, which ``size`` asks for."""
        return tuple(dim.size for dim in self.type.dims)

    def size(self, dim: int | None = None) -> Any:
        """The size of one dimension, or of each; the service tokenises the prompts where it depends on them.

        Raises ``TypeError`` for a size that depends on more than the prompts.
        """
        sizes = self._known_sizes()
        if (None in sizes) if dim is None else (sizes[dim] is None):
            raise TypeError(f"not every size of {self.type} is known before the run; `x.shape` has None for those")
        return sizes if dim is None else sizes[dim]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.type.dims)

    @property
    def T(self) -> "Value":
        """The transpose of a matrix. Raises ``TypeError`` for other numbers of dimensions."""
        if self.ndim != 2:
            raise TypeError(f"x.T wants a matrix, got {self.type}; use x.transpose(i, j) or x.permute(...)")
        return self._call("torch.transpose", self, 0, 1)

    @property
    def mT(self) -> "Value":
        """The value with its last two dimensions exchanged."""
        return self._call("torch.transpose", self, -2, -1)

    def to(self, dtype: object) -> "Value":
        """The value in another dtype: ``"float32"``, a numpy dtype, a torch dtype."""
        if names_a_device(dtype):
            raise TypeError(f"to({str(dtype)!r}) names a device: {ON_THE_DEVICE}")
        return self._call("tensor.to", self, dtype=dtype)

    def grad_of(self, target: "Value") -> "Value":
        """The gradient of ``target``, one number, with respect to this value, which must be a read of a site."""
        return gradient(self._recording, target, self)

    def __getitem__(self, index: object) -> "Value":
        return self._indexed("tensor.getitem", index)

    def __setitem__(self, index: object, value: object) -> None:
        self._ref = self._indexed("tensor.setitem", index, value)._ref

    def _indexed(self, op: str, index: object, *rest: object) -> "Value":
        recording = self._recording

        def ref_of(part: object) -> Ref | None:
            return to_ref(recording, part)

        if not (rest and is_one_table(index)):
            index = without_masks(index, ref_of, self._known_sizes)
        refuse_other_side(index, lambda: [dim.name for dim in self.type.dims])
        place = index_arg(index, ref_of)
        inputs = (self._ref, place, *(to_arg(recording, item) for item in rest))
        return Value(recording, Ref(recording.add(op, inputs)))

    def _known_sizes(self) -> tuple[int | None, ...]:
        """The shape, with the prompts tokenised where it depends on them."""
        if None in self.shape:
            for invoke in range(len(self._recording.prompts)):
                self._recording.tokens(invoke)
        return self.shape

    def __add__(self, other: object) -> "Value":
        return self._call("torch.add", self, other)

    def __radd__(self, other: object) -> "Value":
        return self._call("torch.add", other, self)

    def __sub__(self, other: object) -> "Value":
        return self._call("torch.sub", self, other)

    def __rsub__(self, other: object) -> "Value":
        return self._call("torch.sub", other, self)

    def __mul__(self, other: object) -> "Value":
        return self._call("torch.mul", self, other)

    def __rmul__(self, other: object) -> "Value":
        return self._call("torch.mul", other, self)

    def __truediv__(self, other: object) -> "Value":
        return self._call("torch.div", self, other)

    def __rtruediv__(self, other: object) -> "Value":
        return self._call("torch.div", other, self)

    def __floordiv__(self, other: object) -> "Value":
        return self._call("torch.floor_divide", self, other)

    def __rfloordiv__(self, other: object) -> "Value":
        return self._call("torch.floor_divide", other, self)

    def __mod__(self, other: object) -> "Value":
        return self._call("torch.remainder", self, other)

    def __rmod__(self, other: object) -> "Value":
        return self._call("torch.remainder", other, self)

    def __pow__(self, other: object) -> "Value":
        return self._call("torch.pow", self, other)

    def __rpow__(self, other: object) -> "Value":
        return self._call("torch.pow", other, self)

    def __matmul__(self, other: object) -> "Value":
        return self._call("torch.matmul", self, other)

    def __rmatmul__(self, other: object) -> "Value":
        return self._call("torch.matmul", other, self)

    def __and__(self, other: object) -> "Value":
        return self._call("torch.logical_and", self, other)

    def __or__(self, other: object) -> "Value":
        return self._call("torch.logical_or", self, other)

    def __xor__(self, other: object) -> "Value":
        return self._call("torch.logical_xor", self, other)

    def __invert__(self) -> "Value":
        return self._call("torch.logical_not", self)

    def __neg__(self) -> "Value":
        return self._call("torch.neg", self)

    def __pos__(self) -> "Value":
        return self

    def __abs__(self) -> "Value":
        return self._call("torch.abs", self)

    def __lt__(self, other: object) -> "Value":
        return self._call("torch.lt", self, other)

    def __le__(self, other: object) -> "Value":
        return self._call("torch.le", self, other)

    def __gt__(self, other: object) -> "Value":
        return self._call("torch.gt", self, other)

    def __ge__(self, other: object) -> "Value":
        return self._call("torch.ge", self, other)

    def __eq__(self, other: object) -> "Value":  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._call("torch.eq", self, other)

    def __ne__(self, other: object) -> "Value":  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._call("torch.ne", self, other)

    __hash__ = object.__hash__


def method_names(ops: Iterable[str]) -> list[str]:
    """Names of the methods that a value has."""
    return [name.partition(".")[2] for name in ops if name.startswith(FAMILIES)]


def to_ref(recording: Recording, value: object) -> Ref | None:
    """The reference of a symbolic value of this trace, ``None`` for anything else.

    Raises ``ValueError`` for a value of another trace.
    """
    if not isinstance(value, Value):
        return None
    if value._recording is not recording:
        raise ValueError(
            f"{value!r} belongs to another trace; traces share no values: save it there and use the result's array "
            "here, or give both prompts to one trace with t.prompt(...)"
        )
    return value._ref


def to_arg(recording: Recording, value: object) -> Arg:
    """``value`` as an argument of a node: a reference, a plain constant or an array."""
    ref = to_ref(recording, value)
    if ref is not None:
        return ref
    if value is None or isinstance(value, (str, Slice, Dots)):
        return value
    number = scalar(value)
    if number is not None:
        return number
    dtype = dtype_name(value)
    if dtype is not None:
        return dtype
    if is_array(value):
        return array_constant(value, recording.blobs)
    if isinstance(value, (list, tuple, range)):
        return tuple(to_arg(recording, item) for item in value)
    raise TypeError(
        f"cannot use {value!r} in a graph; wanted a symbolic value, a number, a string, an array or a list of these"
    )


def find_recording(args: Iterable[object]) -> Recording | None:
    """The trace to which the first symbolic value among ``args`` belongs."""
    for arg in args:
        if isinstance(arg, Value):
            return arg._recording
        found = find_recording(arg) if isinstance(arg, (list, tuple)) else None
        if found is not None:
            return found
    return None


def apply(
    recording: Recording, op: str, args: Sequence[object], kwargs: Mapping[str, object], *, invoke: int = 0
) -> Any:
    """What an operation returns: a value, a named tuple of values where it has several outputs, or ``None``."""
    op, args, kwargs = in_one_form(op, tuple(args), dict(kwargs))
    schema = recording.schema(op)
    constants = [to_arg(recording, arg) for arg in args]
    named = {name: to_arg(recording, arg) for name, arg in kwargs.items()}
    node = recording.append(bind(schema, constants, named, invoke=invoke))
    if not schema.outputs:
        return None
    if len(schema.outputs) == 1:
        return Value(recording, Ref(node))
    kind = _record_type(op.rpartition(".")[2], tuple(port.name for port in schema.outputs))
    return kind(*(Value(recording, Ref(node, output)) for output in range(len(schema.outputs))))


@functools.cache
def _record_type(name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
    kind = namedtuple(name, fields)
    # the class stands in no module, so a pickled result says how to make it again
    kind.__reduce__ = lambda self: (_record, (name, fields, tuple(self)))  # pyright: ignore[reportAttributeAccessIssue]
    return kind


def _record(name: str, fields: tuple[str, ...], items: Iterable[object]) -> Any:
    """A record as it was pickled."""
    return _record_type(name, fields)(*items)


def gradient(recording: Recording, target: object, wrt: object) -> "Value":
    """d ``target`` / d ``wrt``. Raises ``InvalidGraph`` when ``wrt`` is not what a read of a site saw."""
    ref = to_ref(recording, wrt)
    site = getattr(wrt, "_site", None)
    if ref is not None and site is not None and recording.nodes[ref.node].op != "site.read":
        raise recording.refuse(
            "BAD_GRADIENT",
            f"this name stands for what was written to {site!r}, and gradients are taken with respect to a value as it "
            f"was read: read the site again after the write, `h = t.site({site!r})`, and use that on the way to the "
            "target and in `h.grad_of(target)`",
        )
    if ref is None or recording.nodes[ref.node].op != "site.read":
        raise recording.refuse(
            "BAD_GRADIENT",
            f"gradients are taken with respect to a value as it was read at a site, got {wrt!r}; read the site, use "
            "that value on the way to the target, and index the gradient afterwards: `h.grad_of(target)[:, -1]`",
        )
    seen = Value(recording, Ref(recording.first_mention(ref.node)))
    return apply(recording, "site.grad", (target, seen), {}, invoke=recording.nodes[ref.node].invoke)
