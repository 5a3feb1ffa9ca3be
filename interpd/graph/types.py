"""Types that cross every seam: dtypes, dimensions with names, tensors as bytes.

A dimension has a name (``pos``, ``d_model``: the axis words of the house) and a size. A size of ``None`` is a
number that is not known yet: the number of positions before the prompt is tokenised.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

ITEM_BYTES: dict[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Every dtype of the wire, spelled as torch spells it, with the bytes of one element."""

FLOAT_DTYPES = ("float64", "float32", "float16", "bfloat16")
INT_DTYPES = ("int64", "int32", "int16", "int8", "uint8")


@dataclass(frozen=True, slots=True)
class Dim:
    """One dimension of a value: the word for it and its size (``None``: not known yet)."""

    name: str
    """An axis word (``pos``, ``d_model``), or ``""`` for a dimension without a meaning of its own."""
    size: int | None = None

    def __str__(self) -> str:
        size = "?" if self.size is None else str(self.size)
        return f"{self.name}={size}" if self.name else size


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a value: a dtype (or a family of dtypes) and dimensions."""

    dtype: str
    """One of ``ITEM_BYTES``, or a family: ``float`` (any floating), ``int``, ``any``."""
    dims: tuple[Dim, ...] = ()

    def __str__(self) -> str:
        return f"{self.dtype}[{' '.join(map(str, self.dims))}]"

    @property
    def n_bytes(self) -> int | None:
        """Bytes of a value of this type; ``None`` while a size is unknown."""
        n = ITEM_BYTES.get(self.dtype, 4)
        for dim in self.dims:
            if dim.size is None:
                return None
            n *= dim.size
        return n


@dataclass(frozen=True, slots=True)
class TensorData:
    """A tensor as data: row-major, contiguous, little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_BYTES:
            raise ValueError(f"unknown dtype {self.dtype!r}; allowed: {', '.join(ITEM_BYTES)}")
        if any(size < 0 for size in self.shape):
            raise ValueError(f"negative size in shape {self.shape}")
        expected = prod(self.shape) * ITEM_BYTES[self.dtype]
        if len(self.data) != expected:
            raise ValueError(f"{self.dtype}{list(self.shape)} takes {expected} bytes, got {len(self.data)}")

    @classmethod
    def from_numpy(cls, array: np.ndarray) -> "TensorData":
        """The bytes of ``array`` (any layout; any dtype of the wire that numpy has)."""
        # ascontiguousarray would turn a scalar into one element
        array = np.asarray(array, order="C")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return cls(str(array.dtype), tuple(array.shape), little.tobytes())

    def to_numpy(self) -> np.ndarray:
        """The tensor as a numpy array; ``bfloat16``, which numpy lacks, comes back exactly, as ``float32``.

        The array is a copy unless ``data`` can be written to, which is how bytes are given away.
        """
        if self.dtype == "bfloat16":
            bits = np.frombuffer(self.data, dtype="<u2").astype(np.uint32) << 16
            return bits.view(np.float32).reshape(self.shape)
        flat = np.frombuffer(self.data, dtype=np.dtype(self.dtype).newbyteorder("<"))
        return flat.reshape(self.shape).astype(self.dtype, copy=memoryview(self.data).readonly)

    @property
    def type(self) -> TensorType:
        """The type of this tensor, with nameless dimensions."""
        return TensorType(self.dtype, tuple(Dim("", size) for size in self.shape))
