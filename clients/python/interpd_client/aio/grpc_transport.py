"""The asynchronous transport that speaks gRPC to a daemon."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, final

import grpc

from interpd.errors import Cancelled
from interpd_client.aio.service_transport import Messages, ServiceTransport
from interpd_client.grpc_channel import CHANNEL_OPTIONS, call_on, checked_address, rebuilt
from interpd_client.methods import METHODS
from interpd_client.questions import Question

_T = TypeVar("_T")


@final
class GrpcTransport(ServiceTransport):
    """A daemon at ``host:port``. The connection is made by the first call, on whose event loop it stays."""

    def __init__(self, address: str) -> None:
        self._address = checked_address(address)
        self._channel: grpc.aio.Channel | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"the daemon at {self._address}"

    async def close(self) -> None:
        """Gives up the connection. Idempotent."""
        self._is_closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _ask(self, question: Question[_T], timeout_s: float | None) -> _T:
        call = call_on(self._opened(), question.method)(question.sent, timeout=timeout_s)
        with self._errors():
            answer = [part async for part in call] if METHODS[question.method].streams else await call
        return question.read(answer)

    async def _stream(self, question: Question[Any], timeout_s: float | None) -> Messages:
        return _Call(call_on(self._opened(), question.method)(question.sent, timeout=timeout_s), self._errors)

    def _opened(self) -> grpc.aio.Channel:
        if self._is_closed:
            raise RuntimeError("the client is closed; connect again")
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        return self._channel

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """gRPC's errors as ours."""
        try:
            yield
        except grpc.RpcError as error:
            raise rebuilt(error, self._address) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # grpc.aio tells a call that was ended from here (its channel was closed) like the end of a task
            raise Cancelled("the call was cancelled", stage="call") from None


@final
class _Call(Messages):
    """A streaming call."""

    def __init__(self, call: Any, errors: Callable[[], Any]) -> None:
        self._call, self._errors = call, errors
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            with self._errors():
                async for message in self._call:
                    yield message
        except Cancelled:
            if not self._is_closed:
                raise

    def close(self) -> None:
        """Ends the call."""
        self._is_closed = True
        self._call.cancel()
