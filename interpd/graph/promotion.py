"""Which dtype comes out when values of several dtypes meet: torch's promotion, without torch.

Tensors with dimensions outweigh 0-d tensors, which outweigh plain numbers: a lighter class decides only when its
category (bool < int < float) is higher. The rules are those of ``torch.result_type``.
"""

from collections.abc import Iterable
from itertools import product

from interpd.graph.types import FLOAT_DTYPES, INT_DTYPES, ITEM_BYTES, TensorType

DEFAULT_FLOAT = "float32"
FLOATS = frozenset((*FLOAT_DTYPES, "float"))
INTS = frozenset((*INT_DTYPES, "int"))

_FLOAT_ORDER = ("float16", "bfloat16", "float32", "float64")


def category(dtype: str) -> int:
    """0 for bool, 1 for integers, 2 for floats (families included)."""
    return 2 if dtype in FLOATS else 1 if dtype in INTS else 0


def _promoted_pair(a: str, b: str) -> str:
    if a == b:
        return a
    if category(a) != category(b):
        return a if category(a) > category(b) else b
    if category(a) == 2:
        if {a, b} == {"float16", "bfloat16"}:
            return "float32"
        return max(a, b, key=_FLOAT_ORDER.index)
    if "uint8" in (a, b):
        return "int16" if "int8" in (a, b) else (a if b == "uint8" else b)
    return max(a, b, key=ITEM_BYTES.__getitem__)


_PAIRS = {(a, b): _promoted_pair(a, b) for a, b in product(ITEM_BYTES, repeat=2)}


def promote(a: str, b: str) -> str:
    """The dtype that holds both; families (``float``, ``int``, ``any``) stay families."""
    known = _PAIRS.get((a, b))
    if known is not None:
        return known
    if "any" in (a, b):
        return "any"
    return a if category(a) >= category(b) and a in ("float", "int") else b if category(b) >= category(a) else a


def scalar_dtype(number: bool | int | float) -> str:
    """The dtype as which a plain number takes part."""
    return "bool" if isinstance(number, bool) else "int64" if isinstance(number, int) else DEFAULT_FLOAT


def result_dtype(values: Iterable[TensorType | bool | int | float]) -> str:
    """The dtype of an elementwise operation on ``values``."""
    classes: list[str | None] = [None, None, None]
    for value in values:
        if isinstance(value, TensorType):
            weight, dtype = (0, value.dtype) if value.dims else (1, value.dtype)
        else:
            weight, dtype = 2, scalar_dtype(value)
        known = classes[weight]
        classes[weight] = dtype if known is None else promote(known, dtype)
    return _combined(classes[0], _combined(classes[1], classes[2])) or DEFAULT_FLOAT


def _combined(heavy: str | None, light: str | None) -> str | None:
    if heavy is None or light is None:
        return heavy or light
    if category(heavy) == 2:
        return heavy
    if heavy == "bool" or category(light) == 2:
        return promote(heavy, light)
    return heavy


def as_float(dtype: str) -> str:
    """The dtype of a function that only floats have: integers become ``float32``."""
    return dtype if dtype in FLOATS or dtype == "any" else DEFAULT_FLOAT
