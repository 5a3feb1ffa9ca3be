"""The asynchronous transport to a daemon in this process."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any, TypeVar, final

from interpd_client.aio.service_transport import Messages, ServiceTransport
from interpd_client.local_transport import InProcess, Stream, specs_of, was_cancelled
from interpd_client.questions import Question

__all__ = ["InProcess", "LocalTransport", "specs_of"]

_T = TypeVar("_T")


@final
class LocalTransport(ServiceTransport):
    """A daemon in this process, without models. It ends when it is closed, and with this object.

    Args:
        daemon: Made for this transport.
    """

    def __init__(self, daemon: InProcess) -> None:
        self._daemon = daemon
        self._end = weakref.finalize(self, daemon.close)

    def __repr__(self) -> str:
        return "the models in this process"

    async def close(self) -> None:
        """Ends the runs and the threads, and frees the models. Idempotent."""
        await asyncio.to_thread(self._end)

    async def _ask(self, question: Question[_T], timeout_s: float | None) -> _T:
        return question.read(await _waited(self._daemon.answer(question.method, question.sent, timeout_s)))

    async def _stream(self, question: Question[Any], timeout_s: float | None) -> Messages:
        return _Messages(self._daemon.stream(question.method, question.sent, timeout_s))


@final
class _Messages(Messages):
    """The responses of a daemon in this process."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        while not self._is_closed and (message := await _waited(self._stream.next())) is not None:
            yield message

    def close(self) -> None:
        """Ends what makes the responses."""
        self._is_closed = True
        self._stream.close()

    def __del__(self) -> None:
        if not self._is_closed:
            self.close()


async def _waited(future: "Future[_T]") -> _T:
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise was_cancelled() from None
