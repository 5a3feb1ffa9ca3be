"""Whether real values are what a schema declares: dtype, rank, and one size per axis word.

Used on the header of artifact files, on what operations return in a run, and by the conformance kit. Looks only at
``shape`` and ``dtype``, so it needs no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from interpd.graph.schema import OpSchema, PortSchema
from interpd.graph.types import FLOAT_DTYPES, INT_DTYPES, Dim, TensorType

_FAMILIES: dict[str, tuple[str, ...]] = {"float": FLOAT_DTYPES, "int": INT_DTYPES}


def is_open(dim: Dim) -> bool:
    """Whether ``dim`` stands for any number of dimensions: ``*batch`` or ``...``."""
    return dim.name == "..." or dim.name.startswith("*")


def dtype_fits(declared: str, dtype: str) -> bool:
    """Whether ``dtype`` is the declared one, or a member of the declared family."""
    return declared in ("any", dtype) or dtype in _FAMILIES.get(declared, ())


class AxisSizes:
    """The sizes that axis words are bound to so far, and by which value."""

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        self.sizes: dict[str, int] = dict(sizes or {})
        self._open: dict[str, tuple[int, ...]] = {}
        self._by: dict[str, str] = dict.fromkeys(self.sizes, "the artifacts")

    def bind(self, what: str, declared: TensorType, dtype: str, shape: Sequence[int]) -> str:
        """Binds the axes of one value; empty, or what is wrong: ``'out' wants float[pos], got int64[3 4]``."""
        got = f"{dtype}[{' '.join(map(str, shape))}]"
        wrong = f"{what} wants {self._shown(declared)}, got {got}"
        spread = _spread(declared.dims, tuple(shape))
        if not dtype_fits(declared.dtype, dtype) or spread is None:
            return wrong
        for dim, sizes in spread:
            problem = self._bind_open(dim, sizes) if is_open(dim) else self._bind_dim(dim, sizes[0], what)
            if problem:
                return f"{wrong}: {problem}"
        return ""

    def _bind_dim(self, dim: Dim, size: int, what: str) -> str:
        if dim.size is not None and dim.size != size:
            return f"{dim} is {size}"
        if not dim.name:
            return ""
        bound = self.sizes.setdefault(dim.name, size)
        by = self._by.setdefault(dim.name, what)
        return "" if bound == size else f"{dim.name} is {size}, but {bound} in {by}"

    def _bind_open(self, dim: Dim, sizes: tuple[int, ...]) -> str:
        if dim.name == "...":
            return ""
        bound = self._open.setdefault(dim.name, sizes)
        return "" if bound == sizes else f"{dim.name} is {list(sizes)}, but was {list(bound)}"

    def _shown(self, declared: TensorType) -> str:
        dims = tuple(
            Dim(dim.name, self.sizes.get(dim.name)) if dim.size is None and dim.name in self.sizes else dim
            for dim in declared.dims
        )
        words = [str(dim) if dim.size is not None else dim.name or "_" for dim in dims]
        return f"{declared.dtype}[{' '.join(words)}]"


def _spread(dims: tuple[Dim, ...], shape: tuple[int, ...]) -> list[tuple[Dim, tuple[int, ...]]] | None:
    """Each dim with its sizes (several for an open one); ``None`` when the ranks do not agree."""
    where = next((i for i, dim in enumerate(dims) if is_open(dim)), None)
    if where is None:
        return [(dim, (size,)) for dim, size in zip(dims, shape, strict=True)] if len(dims) == len(shape) else None
    n_open = len(shape) - (len(dims) - 1)
    if n_open < 0:
        return None
    head = [(dim, (size,)) for dim, size in zip(dims[:where], shape[:where], strict=True)]
    tail = [(dim, (size,)) for dim, size in zip(dims[where + 1 :], shape[where + n_open :], strict=True)]
    return [*head, (dims[where], shape[where : where + n_open]), *tail]


def check_values(
    schema: OpSchema, inputs: Sequence[Any], outputs: Sequence[Any], sizes: Mapping[str, int] | None = None
) -> list[str]:
    """What disagrees between ``schema`` and the tensors that an operation was given and returned; empty when nothing.

    Args:
        schema: The operation.
        inputs: One value per input port; what is not a tensor (an absent port, a number) is not looked at.
        outputs: One value per output port.
        sizes: Axis sizes known beforehand: those of artifacts, and of integer constants named like an axis.
    """
    axes = AxisSizes(sizes)
    problems = []
    for port, value in zip(schema.inputs, inputs, strict=False):
        problems += _bind_port(axes, f"port {port.name!r}", port, value)
    if len(outputs) != len(schema.outputs):
        return [*problems, f"returns {len(outputs)} values, declares {len(schema.outputs)}"]
    dtypes = [dtype_of(value) for value in inputs if hasattr(value, "shape")]
    for port, value in zip(schema.outputs, outputs, strict=True):
        if not hasattr(value, "shape"):
            problems.append(f"output {port.name!r} is of type {type(value).__name__}, not a tensor")
            continue
        problems += _bind_port(axes, f"output {port.name!r}", port, value)
        if port.type is not None and (problem := _promised_dtype(port.type.dtype, dtype_of(value), dtypes)):
            problems.append(f"output {port.name!r} {problem}")
    return problems


def _promised_dtype(declared: str, dtype: str, inputs: Sequence[str]) -> str:
    """What is wrong with an output of a declared family: the checker promised one dtype, from those of the inputs."""
    if declared == "int" and dtype != "int64":
        return f"is {dtype}, but Int promises int64; declare {dtype.capitalize()}"
    first = next((item for item in inputs if item in FLOAT_DTYPES), dtype)
    if declared == "float" and dtype != first:
        return f"is {dtype}, but its first floating port is {first}"
    return ""


def _bind_port(axes: AxisSizes, what: str, port: PortSchema, value: Any) -> list[str]:
    values = value if port.variadic and isinstance(value, tuple | list) else (value,)
    tensors = [item for item in values if hasattr(item, "shape")]
    if port.type is None:
        return []
    problems = (axes.bind(what, port.type, dtype_of(item), item.shape) for item in tensors)
    return [problem for problem in problems if problem]


def dtype_of(value: Any) -> str:
    """The dtype of a tensor as the wire spells it: ``bfloat16``."""
    return str(value.dtype).removeprefix("torch.")
