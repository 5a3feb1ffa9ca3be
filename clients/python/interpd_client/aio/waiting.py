"""Waiting on an event loop."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, final

from interpd.graph.run import Event

_T = TypeVar("_T")


@final
class Awaiting:
    """Implements ``interpd_client.waiting.Waits``."""

    interrupts: tuple[type[BaseException], ...] = (KeyboardInterrupt, asyncio.CancelledError)

    async def call(self, function: Callable[..., Any], *args: object) -> Any:
        """What the coroutine ``function(*args)`` returns."""
        return await function(*args)

    def reader(self, stream: Any) -> Any:
        """The stream's asynchronous iterator."""
        return aiter(stream)

    async def next(self, reader: Any) -> Event | None:
        """The next event; ``None`` after the last one."""
        return await anext(reader, None)

    async def sleep(self, seconds: float) -> None:
        """Lets time pass for this task."""
        await asyncio.sleep(seconds)

    async def aside(self, function: Callable[..., _T], *args: object) -> _T:
        """What ``function`` returns, computed in another thread."""
        return await asyncio.to_thread(function, *args)

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Lets one task in at a time."""
        return asyncio.Lock()
