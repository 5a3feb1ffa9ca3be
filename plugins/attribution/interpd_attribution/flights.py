"""Several requests under way at once, their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from interpd.errors import CallerError
from interpd.graph.run import Event
from interpd_client import Result, RunHandle

MOST = 4
"""Requests of one call that are under way at once: enough that workers are never idle, and passes are shared; each
holds the memory of its own gradients."""


@contextmanager
def of_input(number: int, count: int) -> Iterator[None]:
    """Inside the block, errors of the caller's say which of several inputs they are about."""
    try:
        yield
    except CallerError as error:
        if count > 1:
            error.message = f"input {number}: {error.message}"
            error.args = (error.message,)
        raise


class Flights:
    """Requests that are sent one after the other, never more than ``most`` ahead of the one that is waited for.

    Args:
        starts: Each sends a request.
        on_event: Called with the number of a request and each event of it.
        count: How many there are in all; errors name the number of a request where it is more than one.
        most: How many are under way at once.
    """

    def __init__(
        self,
        starts: Iterable[Callable[[], RunHandle]],
        on_event: Callable[[int, Event], Any] | None = None,
        *,
        count: int = 1,
        most: int = MOST,
    ) -> None:
        self._starts = enumerate(starts)
        self._on_event = on_event
        self._count = count
        self._most = most
        self._flying: deque[tuple[int, RunHandle]] = deque()

    def fill(self) -> None:
        """Sends as many as may be under way."""
        while len(self._flying) < self._most and (found := next(self._starts, None)) is not None:
            number, start = found
            with of_input(number, self._count):
                self._flying.append((number, start()))

    def cancel(self) -> None:
        """Ends what is under way, and sends no more; from any thread."""
        self._starts = enumerate(())
        for _, handle in tuple(self._flying):
            handle.cancel()

    def __iter__(self) -> Iterator[Result]:
        try:
            self.fill()
            while self._flying:
                yield self._landed()
                self.fill()
        finally:
            # also for Ctrl-C, and for who wants no more of them
            self.cancel()

    def _landed(self) -> Result:
        number, handle = self._flying[0]
        told = self._on_event
        with of_input(number, self._count):
            result = handle.result(None if told is None else lambda event: told(number, event))
        self._flying.popleft()
        return result
