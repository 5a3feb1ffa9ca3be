"""Several requests under way at once, their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from interpd.graph.run import Event
from interpd_client import Result, RunHandle

MOST = 4
"""Requests of one call that are under way at once: enough that workers are never idle, and passes are shared; each
holds the memory of its own gradients."""


def in_flight(
    starts: Iterable[Callable[[], RunHandle]], on_event: Callable[[int, Event], Any] | None = None, most: int = MOST
) -> Iterator[Result]:
    """The result of each request, in order; what is still under way when something ends this is cancelled.

    Args:
        starts: Each sends a request.
        on_event: Called with the number of a request and each event of it.
        most: How many are under way at once.
    """
    flying: deque[tuple[int, RunHandle]] = deque()
    try:
        for number, start in enumerate(starts):
            flying.append((number, start()))
            if len(flying) == most:
                yield _landed(flying, on_event)
        while flying:
            yield _landed(flying, on_event)
    finally:
        for _, handle in flying:
            handle.cancel()


def _landed(flying: deque[tuple[int, RunHandle]], on_event: Callable[[int, Event], Any] | None) -> Result:
    number, handle = flying[0]
    result = handle.result(None if on_event is None else lambda event: on_event(number, event))
    flying.popleft()
    return result
