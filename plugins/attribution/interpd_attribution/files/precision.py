"""Arrays of scores as bytes, in 32, 16 or 8 bits, in the safetensors format; numpy alone.

A safetensors file is the length of its header (8 bytes), the header (JSON: dtype, shape, where the bytes lie) and the
bytes. We write one tensor, called ``attribution`` as Inseq calls it.
"""

import base64
import binascii
import json
import math
import struct
from typing import Literal, get_args

import numpy as np

from interpd.errors import CallerError

Precision = Literal["float32", "float16", "float8"]

NAME = "attribution"
MOST_HEADER_BYTES = 65_536

_DTYPES = {"float32": "F32", "float16": "F16", "float8": "F8_E4M3"}
_READ = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "F8_E4M3": "u1"}
_LARGEST = {"float32": math.inf, "float16": 65504.0, "float8": 448.0}
_FILLED = {"float16": 2.0**14, "float8": 2.0**7}
"""Scores are brought into the binade of this number before they are rounded; a power of two adds no error."""


def check_precision(precision: str) -> None:
    """Raises ``CallerError`` for a precision that is not one of ours."""
    if precision not in get_args(Precision):
        raise CallerError(f"scores_precision is {precision!r}, expected one of {', '.join(get_args(Precision))}")


def fitting_scale(array: np.ndarray, precision: Precision) -> float:
    """The power of two to multiply ``array`` with, so that it fills the range of ``precision``."""
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
    if precision == "float32" or largest == 0.0:
        return 1.0
    return 2.0 ** (math.floor(math.log2(_FILLED[precision])) - math.floor(math.log2(largest)))


def encode(array: np.ndarray, precision: Precision) -> str:
    """``array`` as base64 of a safetensors file; a score beyond the range of ``precision`` raises ``CallerError``."""
    # 8 bits have no infinity
    bounded = array[~np.isnan(array) if precision == "float8" else np.isfinite(array)]
    if not (np.abs(bounded) <= _LARGEST[precision]).all():
        raise CallerError(f"a score does not fit into {precision}, whose largest is {_LARGEST[precision]:g}")
    data = {"float32": _as_float32, "float16": _as_float16, "float8": _as_float8}[precision](array)
    header = {NAME: {"dtype": _DTYPES[precision], "shape": list(array.shape), "data_offsets": [0, len(data)]}}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return base64.b64encode(struct.pack("<Q", len(text)) + text + data).decode("ascii")


def decode(text: object, where: str) -> np.ndarray:
    """The array of ``encode``, as float32. What is not such a file raises ``CallerError`` with ``where``."""
    try:
        raw = base64.b64decode(str(text), validate=True)
        (n_header,) = struct.unpack("<Q", raw[:8])
        if n_header > min(MOST_HEADER_BYTES, len(raw) - 8):
            raise ValueError(f"its header is said to have {n_header} bytes")
        entry = json.loads(raw[8 : 8 + n_header])[NAME]
        first, last = entry["data_offsets"]
        flat = np.frombuffer(raw[8 + n_header :][first:last], dtype=_READ[entry["dtype"]])
        shape = tuple(int(size) for size in entry["shape"])
        values = FLOAT8[flat] if entry["dtype"] == "F8_E4M3" else flat.astype(np.float32)
        return values.reshape(shape)
    except (ValueError, KeyError, TypeError, struct.error, binascii.Error) as error:
        raise CallerError(f"{where} holds no tensor: {type(error).__name__}: {error}") from error


def _as_float32(array: np.ndarray) -> bytes:
    return array.astype("<f4").tobytes()


def _as_float16(array: np.ndarray) -> bytes:
    return array.astype("<f2").tobytes()


def _as_float8(array: np.ndarray) -> bytes:
    """To the nearest number of 4 bits of exponent and 3 of mantissa (OCP E4M3), to the even one of two."""
    magnitudes = np.nan_to_num(np.abs(array.astype(np.float64)))
    positive = FLOAT8[:_NAN8].astype(np.float64)
    middles = (positive[1:] + positive[:-1]) / 2
    codes = np.searchsorted(middles, magnitudes, side="left")
    is_tie = (codes < len(middles)) & (magnitudes == middles[np.minimum(codes, len(middles) - 1)])
    codes = np.where(is_tie & (codes % 2 == 1), codes + 1, codes)
    codes = np.where(np.isnan(array), _NAN8, codes) | (np.signbit(array).astype(np.int64) << 7)
    return codes.astype(np.uint8).tobytes()


_NAN8 = 0x7F


def _float8_table() -> np.ndarray:
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    values = np.where(exponent == 0, np.ldexp(mantissa / 8, -6), normal)
    values = np.where(code & _NAN8 == _NAN8, np.nan, values)
    return np.where(code >> 7, -values, values).astype(np.float32)


FLOAT8 = _float8_table()
"""The number of each byte."""
