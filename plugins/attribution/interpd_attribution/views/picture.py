"""Large results as a picture, one pixel or a few for a score, which a page holds as a PNG."""

import base64
import struct
import zlib

import numpy as np

from interpd_attribution.views.colours import BLUE, RED, Scale

WIDEST = 1024
"""Pixels up to which a score gets more than one."""


def picture_html(scores: np.ndarray, used: Scale) -> str:
    """Scores ``[input generated]`` as an image, transparent where they are zero, for light and dark pages."""
    n_rows, n_columns = scores.shape
    size = max(1, WIDEST // max(n_rows, n_columns))
    data = base64.b64encode(png(coloured(scores, used))).decode("ascii")
    place = f'width="{n_columns * size}" height="{n_rows * size}"'
    said = 'class="px" alt="scores, inputs down, generated tokens across"'
    return f'<img {said} {place} src="data:image/png;base64,{data}">'


def coloured(scores: np.ndarray, used: Scale) -> np.ndarray:
    """``[input generated 4]``: red, green, blue and opacity."""
    strengths = np.nan_to_num(used.strengths(scores))
    colours = np.where(strengths[..., None] >= 0, np.array(RED), np.array(BLUE))
    return np.concatenate((colours, np.rint(np.abs(strengths) * 255)[..., None]), axis=-1).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of ``[row column 4]`` bytes."""
    n_rows, n_columns, _ = pixels.shape
    # each row begins with the number of its filter, which is none
    lines = np.concatenate((np.zeros((n_rows, 1), np.uint8), pixels.reshape(n_rows, -1)), axis=1).tobytes()
    head = struct.pack(">IIBBBBB", n_columns, n_rows, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
