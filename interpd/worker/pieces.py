"""Large results on their way from a worker's process, as Ray hands them over with one copy.

Ray copies what it pickles, but writes an array of numpy straight into shared memory, where the other process reads it.
A result in one piece would take as much of that memory as it has bytes, and when there is less, Ray goes through the
disk: so large results travel in pieces, each of which is copied out and let go of when it has come.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from interpd.graph.run import Event, Result
from interpd.graph.types import ITEM_BYTES, TensorData

SMALL_BYTES = 256 << 10
"""Results up to this size travel as they are, with other events."""

PIECE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a result, and which result it is; pieces of one result come in order and without others between."""

    data: np.ndarray
    run_id: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    partial: bool


def cut(events: Iterable[Event]) -> Iterator[Event | Piece]:
    """``events`` with pieces in place of large results."""
    for event in events:
        if isinstance(event, Result) and len(event.tensor.data) > SMALL_BYTES:
            tensor, data = event.tensor, np.frombuffer(event.tensor.data, np.uint8)
            for start in range(0, len(data), PIECE_BYTES):
                piece = data[start : start + PIECE_BYTES]
                yield Piece(piece, event.run_id, event.name, tensor.dtype, tensor.shape, event.axes, event.partial)
        else:
            yield event


def carried_bytes(item: Event | Piece) -> int:
    """How many bytes of results come with ``item``."""
    if isinstance(item, Piece):
        return item.data.nbytes
    return len(item.tensor.data) if isinstance(item, Result) else 0


class Joiner:
    """Makes results of their pieces again."""

    def __init__(self) -> None:
        self._bytes: np.ndarray | None = None
        self._n_bytes = 0

    def join(self, items: Iterable[Event | Piece]) -> list[Event]:
        """The events that are complete with these."""
        events: list[Event] = []
        for item in items:
            if not isinstance(item, Piece):
                events.append(item)
            elif (result := self._add(item)) is not None:
                events.append(result)
        return events

    def _add(self, piece: Piece) -> Result | None:
        total = prod(piece.shape) * ITEM_BYTES[piece.dtype]
        if self._bytes is None:
            self._bytes, self._n_bytes = np.empty(total, np.uint8), 0
        end = self._n_bytes + piece.data.nbytes
        self._bytes[self._n_bytes : end] = piece.data
        self._n_bytes = end
        if end < total:
            return None
        # read-only: whoever gets the event shall not change what others read
        whole, self._bytes = memoryview(self._bytes).toreadonly(), None
        return Result(piece.run_id, piece.name, TensorData(piece.dtype, piece.shape, whole), piece.axes, piece.partial)
