"""The events of one run, numbered from 0, for readers that come, go and come back."""

import asyncio
from collections.abc import AsyncIterator

from interpd.errors import RunNotFound
from interpd.graph.run import TERMINAL, Event, Result

EVENT_BYTES = 1 << 10
"""What an event takes besides its tensor, about."""


class EventLog:
    """An append-only list of events that ends with exactly one terminal event.

    Args:
        run_id: For messages.
        keeps: Whether events stay for a second reader; otherwise each is dropped once it was read.
    """

    def __init__(self, run_id: str, *, keeps: bool) -> None:
        self._run_id = run_id
        self._keeps = keeps
        self._events: list[Event] = []
        self._first = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.ended: Event | None = None
        """The terminal event, once there is one."""
        self.n_bytes = 0
        """Of the events held now, about."""

    def append(self, event: Event) -> None:
        """Adds an event; none may follow a terminal one."""
        assert self.ended is None, f"run {self._run_id!r} has ended with {self.ended!r}"
        self._events.append(event)
        self.n_bytes += _n_bytes(event)
        if isinstance(event, TERMINAL):
            self.ended = event
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def has(self, number: int) -> bool:
        """Whether the event of this number has happened."""
        return number < self._first + len(self._events)

    async def read(self, start: int) -> AsyncIterator[Event]:
        """Events from number ``start`` on; ends after the terminal one. Raises ``RunNotFound`` for dropped events."""
        number = start
        while True:
            if number < self._first:
                raise RunNotFound(
                    f"events {number} to {self._first - 1} of run {self._run_id!r} are not kept; "
                    "submit with keep_s > 0 to read them twice",
                    run=self._run_id,
                )
            if self.has(number):
                event = self._events[number - self._first]
                yield event
                number += 1
                if not self._keeps:
                    self._drop_before(number)
            elif self.ended is not None:
                return
            else:
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def _drop_before(self, number: int) -> None:
        n = number - self._first
        if n > 0:
            self.n_bytes -= sum(map(_n_bytes, self._events[:n]))
            del self._events[:n]
            self._first = number


def _n_bytes(event: Event) -> int:
    return EVENT_BYTES + (len(event.tensor.data) if isinstance(event, Result) else 0)
