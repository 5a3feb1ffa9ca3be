"""Python and numpy values as constants of a graph: numbers as they are, small arrays inline, large ones by digest."""

import numbers
from collections.abc import MutableMapping

import numpy as np

from interpd.graph.digest import blob_digest
from interpd.graph.ir import Arg, Blob
from interpd.graph.types import ITEM_BYTES, TensorData

INLINE_BYTES = 64 << 10
"""Arrays above this size are uploaded once and named by their digest."""


def is_array(value: object) -> bool:
    """Whether ``value`` is a numpy array or something that says how to become one (a torch tensor)."""
    return isinstance(value, np.ndarray) or hasattr(value, "__array__")


def tensor_data(value: object) -> TensorData:
    """The bytes of a numpy array or of a torch tensor on any device.

    Raises ``TypeError`` for dtypes that the wire does not know (strings, objects, complex numbers).
    """
    detach = getattr(value, "detach", None)
    if detach is not None:
        value = detach().cpu()
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":
            return _bfloat16_data(value)
    array = np.asarray(value)
    if str(array.dtype) not in ITEM_BYTES:
        known = ", ".join(ITEM_BYTES)
        raise TypeError(f"an array of dtype {array.dtype} cannot be a constant; allowed are {known}")
    return TensorData.from_numpy(array)


def _bfloat16_data(tensor: object) -> TensorData:
    # numpy has no bfloat16; float32 holds every one of its numbers, and the upper half of its bits is that number
    bits = tensor.float().numpy().view(np.uint32) >> 16  # pyright: ignore[reportAttributeAccessIssue]
    return TensorData("bfloat16", tuple(bits.shape), bits.astype("<u2").tobytes())


def scalar(value: object) -> bool | int | float | None:
    """``value`` as a plain Python number, ``None`` when it is not one number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


def array_constant(value: object, blobs: MutableMapping[str, TensorData]) -> Arg:
    """An array as it stands in a graph; the bytes of a large one go to ``blobs`` under their digest."""
    data = tensor_data(value)
    if len(data.data) <= INLINE_BYTES:
        return data
    digest = blob_digest(data)
    blobs[digest] = data
    return Blob(digest, data.dtype, data.shape)


def dtype_name(value: object) -> str | None:
    """torch's spelling of a numpy dtype or class, a torch dtype or a Python type; ``None`` when it is no dtype."""
    builtin = {float: "float32", int: "int64", bool: "bool"}
    if isinstance(value, type):
        return builtin.get(value) or (value.__name__ if issubclass(value, np.generic) else None)
    if isinstance(value, np.dtype):
        return value.name
    text = str(value)
    is_torch = type(value).__module__ == "torch" and text.startswith("torch.")
    return text.removeprefix("torch.") if is_torch else None
