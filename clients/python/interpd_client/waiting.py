"""How a client waits: inside a call, or on an event loop. All the rest of it is written once, as coroutines.

Coroutines of this package wait through a ``Waits`` only. Those of a blocking client wait inside the call, never for an
event loop, so that ``finished`` runs them to their end on the spot; ``interpd_client.aio`` has the other kind.
"""

import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol, TypeVar, final

from interpd.graph.run import Event

_T = TypeVar("_T")


class Waits(Protocol):
    """One of the two kinds of waiting."""

    interrupts: tuple[type[BaseException], ...]
    """What tells a run that its reader is about to leave."""

    async def call(self, function: Callable[..., Any], *args: object) -> Any:
        """What a method of the transport answers."""

    def reader(self, stream: Any) -> Any:
        """What ``next`` takes the events of ``stream`` from."""

    async def next(self, reader: Any) -> Event | None:
        """The next event; ``None`` after the last one."""

    async def sleep(self, seconds: float) -> None:
        """Lets time pass."""

    async def aside(self, function: Callable[..., _T], *args: object) -> _T:
        """What a function returns that computes, reads or writes for long."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Lets one in at a time."""


@final
class Blocking:
    """Waits inside the call, on the caller's thread.

    Args:
        sleep: Lets seconds pass.
    """

    interrupts: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep

    async def call(self, function: Callable[..., Any], *args: object) -> Any:
        """What ``function`` returns."""
        return function(*args)

    def reader(self, stream: Any) -> Any:
        """The stream's iterator."""
        return iter(stream)

    async def next(self, reader: Any) -> Event | None:
        """The next event; ``None`` after the last one."""
        return next(reader, None)

    async def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self._sleep(seconds)

    async def aside(self, function: Callable[..., _T], *args: object) -> _T:
        """What ``function`` returns."""
        return function(*args)

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Lets one thread in at a time."""
        return _ThreadLock()


class _ThreadLock(AbstractAsyncContextManager[None]):
    """A lock of threads in the clothes of one of coroutines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def finished(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns that waits inside its calls only."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("a coroutine of the blocking client waited for an event loop")
