"""Large results on their way from a worker's process, as Ray hands them over with one copy.

Ray copies what it pickles, but writes an array of numpy straight into shared memory, where the other process reads it.
A result in one piece would take as much of that memory as it has bytes, and when there is less, Ray goes through the
disk: so large results travel in pieces, each of which is copied out and let go of when it has come.
"""

import asyncio
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


class Arrival:
    """Implements ``graph.run.Arrival`` on one event loop."""

    def __init__(self) -> None:
        self._n_bytes = 0
        self._is_lost = False
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, n_bytes: int) -> None:
        """More bytes have come."""
        self._n_bytes += n_bytes
        self._wake()

    def lose(self) -> None:
        """No more will come."""
        self._is_lost = True
        self._wake()

    async def wait(self, n_bytes: int) -> bool:
        """Whether the first ``n_bytes`` are there, once that is known."""
        while self._n_bytes < n_bytes and not self._is_lost:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        return self._n_bytes >= n_bytes

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class Joiner:
    """Makes results of their pieces again. A result is handed on with its first piece; the others fill it."""

    def __init__(self) -> None:
        self._bytes: np.ndarray | None = None
        self._n_bytes = 0
        self._arrival = Arrival()

    def join(self, items: Iterable[Event | Piece]) -> list[Event]:
        """The events that begin with these."""
        events: list[Event] = []
        for item in items:
            if not isinstance(item, Piece):
                events.append(item)
            elif (result := self._add(item)) is not None:
                events.append(result)
        return events

    def lose(self) -> None:
        """Says that no more pieces will come."""
        self._arrival.lose()

    def _add(self, piece: Piece) -> Result | None:
        is_first = self._bytes is None
        if self._bytes is None:
            n_bytes = prod(piece.shape) * ITEM_BYTES[piece.dtype]
            self._bytes, self._n_bytes, self._arrival = np.empty(n_bytes, np.uint8), 0, Arrival()
        whole, begin = self._bytes, self._n_bytes
        self._n_bytes += piece.data.nbytes
        whole[begin : self._n_bytes] = piece.data
        self._arrival.add(piece.data.nbytes)
        is_last = self._n_bytes == len(whole)
        if is_last:
            self._bytes = None
        if not is_first:
            return None
        # read-only: whoever gets the event shall not change what others read
        tensor = TensorData(piece.dtype, piece.shape, memoryview(whole).toreadonly())
        arriving = None if is_last else self._arrival
        return Result(piece.run_id, piece.name, tensor, piece.axes, piece.partial, arriving)
