"""Every function and method of torch by name: who records it."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interpd.graph.builtin import BUILTIN_OPS
from interpd_client.names import advice, nearest_names
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.padding import arguments
from interpd_client.torch_names import ALIASES, in_one_form, operation

if TYPE_CHECKING:
    from interpd_client.nnsight.recorder import Recorder

Function = Callable[["Recorder", Any, tuple[Any, ...], dict[str, Any]], Any]
"""Takes the recorder, the function of torch itself, and what it was called with."""

DUNDERS: Mapping[str, str] = {
    "__eq__": "eq",
    "__ne__": "ne",
    "__lt__": "lt",
    "__le__": "le",
    "__gt__": "gt",
    "__ge__": "ge",
    "__floordiv__": "floor_divide",
    "__mod__": "remainder",
    "__pow__": "pow",
    "__abs__": "abs",
    "linalg_vector_norm": "linalg.vector_norm",
    "linalg_norm": "linalg.norm",
    "special_expit": "sigmoid",
    "true_divide": "div",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "vecdot": "linalg.vecdot",
}
"""Names of torch's functions, where they are not those of graphs."""

NOT_FOR_GRAPHS = ("_stacklevel", "out", "size_average", "reduce", "layout", "device", "pin_memory", "memory_format")
"""Keywords that say nothing to a graph when they are ``None`` or about how a tensor lies in memory."""


@cache
def _tables() -> Mapping[str, Function]:
    # the tables call functions of torch on recorded tensors, which comes back here
    from interpd_client.nnsight import attributes, composites, forms, inplace, viewing

    tables = (attributes.FUNCTIONS, viewing.FUNCTIONS, forms.FUNCTIONS, composites.FUNCTIONS, inplace.FUNCTIONS)
    return {name: function for table in tables for name, function in table.items()}


def function_of(name: str) -> Function:
    """Who records the function of torch called ``name``; raises ``CannotRecord`` where nobody does."""
    found = _tables().get(name)
    if found is not None:
        return found
    if name.endswith("_") and not name.endswith("__"):
        from interpd_client.nnsight.inplace import in_place

        return in_place(name)
    op = operation(f"torch.{DUNDERS.get(name, name)}")
    if op is None:
        raise unknown(name)
    return lambda recorder, func, args, kwargs: operate(recorder, op, func, args, kwargs)


def unknown(name: str) -> CannotRecord:
    """The error for a function that graphs do not have."""
    shown = name.removeprefix("__get__")
    names = {op.removeprefix("torch.") for op in (*BUILTIN_OPS, *ALIASES) if op.startswith("torch.")} | set(_tables())
    near = [one for one in nearest_names(shown, sorted(names)) if not one.startswith("_")]
    return CannotRecord(
        f"graphs have no operation for torch's {shown!r}{advice(near)}; write it with the operations that there are "
        "(arithmetic, reductions, matmul, indexing: interpd/REFERENCE.md), or save what it works on and call it after "
        "the trace"
    )


def operate(recorder: "Recorder", op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation of graphs that torch has under the same name and form."""
    out = recorder.shadowed(func, args, kwargs)
    return as_node(recorder, op, out, args, kwargs)


def as_node(
    recorder: "Recorder", op: str, out: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """The operation ``op`` on these arguments, in torch's form of it; ``out`` is what torch gives without data."""
    kwargs = {name: v for name, v in (kwargs or {}).items() if name not in NOT_FOR_GRAPHS and v is not None}
    op, args, kwargs = in_one_form(op, args, kwargs)
    given, named, padding = arguments(recorder, op, args, kwargs, out)
    made = recorder.wrapped(out, recorder.append(op, given, named))
    if padding is not None:
        for tensor in [made] if isinstance(made, Tensor) else made:
            tensor._memory.rows[0] = type(tensor._memory.rows[0])(tensor._memory.rows[0].ref, padding)
    return made


def dtype_name(dtype: torch.dtype) -> str:
    """How graphs spell a dtype."""
    return str(dtype).removeprefix("torch.")
