"""The service without a server, for callers in this process: the same methods, checks, bounds and errors.

Messages go in and come out as they are, without bytes and sockets; an error comes out as a caller of the wire gets it.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from interpd.errors import InterpdError
from interpd.scheduler.interface import Front
from interpd.service.interceptors import Call, answer_limit_s, bug, within
from interpd.service.options import ServiceOptions
from interpd.service.servicers import Servicers
from interpd.telemetry import Log
from interpd.wire.status import code_of, from_rpc_status, from_transport, to_rpc_status

_M = TypeVar("_M", bound=Message)

log = Log("service")


class DirectService:
    """Answers for ``front``. Used on the front's event loop.

    Args:
        front: Who does the work.
        options: Bounds; those on connections mean nothing here.
    """

    def __init__(self, front: Front, options: ServiceOptions | None = None) -> None:
        self._options = options or ServiceOptions()
        self._servicers = Servicers(front, self._options)
        self._functions = self._servicers.functions()

    async def answer(self, method: str, request: Any, timeout_s: float | None) -> Any:
        """The response of a method that has one, or the list of those of one that has several.

        Args:
            method: Its name: ``ListModels``.
            request: The message, or an iterable of the parts of an upload.
            timeout_s: The caller's deadline.
        """
        function, call = self._functions[method], _call(timeout_s)
        with _as_on_the_wire(call), _deadline():
            async with asyncio.timeout(timeout_s), within(answer_limit_s(method, self._options), "answering"):
                if not isinstance(request, Message):
                    return await function(self._parts(request), call)
                response = function(self._fitting(request, "Received"), call)
                if isinstance(response, AsyncGenerator):
                    return [self._fitting(part, "Sent") async for part in response]
                return self._fitting(await response, "Sent")

    def stream(self, method: str, request: Message, timeout_s: float | None) -> "Responses":
        """The responses of a method that has several, one after the other."""
        return Responses(self, method, request, timeout_s)

    def started(self, method: str, request: Message, call: Call) -> AsyncGenerator[Message, None]:
        """The generator of the responses of a method. Raises what refuses the request."""
        return self._functions[method](self._fitting(request, "Received"), call)

    def close(self) -> None:
        """Gives up what the service holds."""
        self._servicers.close()

    async def _parts(self, parts: Iterable[Message]) -> AsyncIterator[Message]:
        for part in parts:
            # an upload takes turns with everybody else
            await asyncio.sleep(0)
            yield self._fitting(part, "Received")

    def _fitting(self, message: _M, what: str) -> _M:
        """``message``. Raises what gRPC says of one that is too large."""
        n_bytes, most = message.ByteSize(), self._options.message_bytes
        if n_bytes > most:
            text = f"SERVER: {what} message larger than max ({n_bytes} vs. {most})"
            raise from_transport(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        return message


class Responses:
    """The responses to one request, as somebody asks for them. Each call may come from another task."""

    def __init__(self, service: DirectService, method: str, request: Message, timeout_s: float | None) -> None:
        self._service, self._method, self._request = service, method, request
        self._call = _call(timeout_s)
        self._generator: AsyncGenerator[Message, None] | None = None
        self._step: asyncio.Task[Message | None] | None = None

    async def next(self) -> Message | None:
        """The next response; ``None`` after the last one."""
        left_s = None if self._call.deadline_s is None else self._call.deadline_s - time.time()
        with _as_on_the_wire(self._call), _deadline():
            self._step = asyncio.ensure_future(self._next())
            try:
                async with asyncio.timeout(left_s):
                    return await self._step
            # whatever ends the reading, a cancel too, lets the run go
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Ends what makes the responses, as the end of a connection does. Idempotent."""
        if self._step is not None and not self._step.done():
            self._step.cancel()
            await asyncio.wait((self._step,))
        if self._generator is not None:
            await self._generator.aclose()

    async def _next(self) -> Message | None:
        if self._generator is None:
            self._generator = self._service.started(self._method, self._request, self._call)
        return await anext(self._generator, None)


def _call(timeout_s: float | None) -> Call:
    return Call(uuid.uuid4().hex, None if timeout_s is None else time.time() + timeout_s)


@contextmanager
def _deadline() -> Iterator[None]:
    """The end of the caller's patience, in gRPC's words."""
    try:
        yield
    except TimeoutError:
        raise from_transport(grpc.StatusCode.DEADLINE_EXCEEDED, "") from None


@contextmanager
def _as_on_the_wire(call: Call) -> Iterator[None]:
    """Every error as the other end of a connection would see it: its status, read again."""
    try:
        yield
    except InterpdError as error:
        raise from_rpc_status(to_rpc_status(error), code_of(error)) from None
    # the edge of the service: a bug in any layer below must answer this caller and hurt no other
    except Exception as error:
        log.exception("a bug ended a call", request_id=call.request_id)
        found = bug(error, call.request_id)
        raise from_rpc_status(to_rpc_status(found), code_of(found)) from None
