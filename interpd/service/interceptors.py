"""What surrounds every call: readable bytes, a request id, a bound on time, errors as statuses.

gRPC's own interceptors see a method before its request is read and cannot hand anything on to it, so the surroundings
are made here, from the service's descriptor: a method of a servicer is a plain function of messages and a ``Call``, and
knows nothing of grpc. Requests arrive as raw bytes, because grpc answers bytes that it cannot read with UNKNOWN and the
text of a Python exception.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from interpd.errors import DeadlineExceeded, InternalError, InterpdError
from interpd.service.options import ServiceOptions
from interpd.telemetry import Log
from interpd.wire.problems import parse
from interpd.wire.status import DETAILS_KEY, code_of, to_rpc_status

REQUEST_ID_KEY = "x-request-id"
"""Metadata that names a call in the log: the caller's, or ours; sent back in the trailing metadata."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_WORD = re.compile(r"(?<!^)(?=[A-Z])")

log = Log("service")

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """What a method knows of the call that it serves."""

    request_id: str
    deadline_s: float | None
    """The caller's deadline on the Unix clock; ``None``: it set none."""


def service_handler(service: ServiceDescriptor, servicer: object, options: ServiceOptions) -> grpc.GenericRpcHandler:
    """A handler of every method of ``service``; ``RunGraph`` is ``servicer.run_graph``."""
    handlers = {}
    for method in service.methods:
        function = getattr(servicer, function_name(method))
        handlers[method.name] = _handler(method, function, options)
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def function_name(method: MethodDescriptor) -> str:
    """What a servicer calls the function of a method: ``run_graph`` for ``RunGraph``."""
    return _WORD.sub("_", method.name).lower()


def answer_limit_s(name: str, options: ServiceOptions) -> float:
    """How long a method with one answer may take."""
    return options.load_s if name.endswith("LoadModel") else options.answer_s


def _handler(method: MethodDescriptor, function: Callable[..., Any], options: ServiceOptions) -> grpc.RpcMethodHandler:
    request_type = message_factory.GetMessageClass(method.input_type)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_streaming(function, request_type, method.full_name, options))
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(_uploading(function, request_type, method.full_name, options))
    return grpc.unary_unary_rpc_method_handler(_answering(function, request_type, method.full_name, options))


def _answering(
    function: Callable[..., Any], request_type: type[Message], name: str, options: ServiceOptions
) -> Callable[[bytes, Context], Any]:
    limit_s = answer_limit_s(name, options)

    async def answer(data: bytes, context: Context) -> bytes:
        async with _surrounded(context, name) as call, within(limit_s, "answering"):
            response = await function(parse(request_type, data), call)
        return response.SerializeToString()

    return answer


def _streaming(
    function: Callable[..., AsyncGenerator[Message, None]],
    request_type: type[Message],
    name: str,
    options: ServiceOptions,
) -> Callable[[bytes, Context], Any]:
    async def stream(data: bytes, context: Context) -> None:
        async with _surrounded(context, name) as call:
            await _write_all(function(parse(request_type, data), call), context, options.stall_s)

    return stream


async def _write_all(responses: AsyncGenerator[Message, None], context: Context, stall_s: float) -> None:
    """Sends all responses; the generator is closed whatever happens, and as soon as a write takes too long.

    A loop of our own instead of grpc's: an error in the middle becomes a status, and a generator whose reader went away
    is closed at once. Raises ``DeadlineExceeded``.
    """
    loop, stalled = asyncio.get_running_loop(), list[asyncio.Task[None]]()
    async with aclosing(responses):
        async for response in responses:
            data = response.SerializeToString()
            # a timer and not a task with a timeout: a large result is thousands of these
            timer = loop.call_later(stall_s, lambda: stalled.append(asyncio.ensure_future(responses.aclose())))
            try:
                await context.write(data)
            except grpc.aio.BaseError as error:
                # a write fails when its reader has gone, which the context may not know yet
                raise _ReaderGone from error
            finally:
                timer.cancel()
            if stalled:
                # no status can overtake the message that nobody took
                await stalled[0]
                raise DeadlineExceeded(f"nothing was read for {stall_s:g} s", stage="streaming")


class _ReaderGone(Exception):
    """Nobody is there to be told anything."""


def _uploading(
    function: Callable[..., Any], request_type: type[Message], name: str, options: ServiceOptions
) -> Callable[[AsyncIterator[bytes], Context], Any]:
    async def upload(parts: AsyncIterator[bytes], context: Context) -> bytes:
        async with _surrounded(context, name) as call:
            response = await function(_parsed(parts, request_type, options.stall_s), call)
        return response.SerializeToString()

    return upload


async def _parsed(
    parts: AsyncIterator[bytes], request_type: type[Message], stall_s: float
) -> AsyncGenerator[Message, None]:
    remaining = aiter(parts)
    while True:
        async with within(stall_s, "uploading"):
            data = await anext(remaining, None)
        if data is None:
            return
        yield parse(request_type, data)


@asynccontextmanager
async def within(limit_s: float, stage: str) -> AsyncIterator[None]:
    """Raises ``DeadlineExceeded`` when the body takes longer than the service allows."""
    try:
        async with asyncio.timeout(limit_s) as timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise DeadlineExceeded(f"the service gave up after {limit_s:g} s of {stage}", stage=stage) from None


@asynccontextmanager
async def _surrounded(context: Context, method: str) -> AsyncIterator[Call]:
    """The call; whatever its body raises ends it with the status of that error."""
    request_id = _request_id(context)
    remaining_s = context.time_remaining()
    context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
    try:
        yield Call(request_id, None if remaining_s is None else time.time() + remaining_s)
    except InterpdError as error:
        await _abort(context, error, request_id)
    except _ReaderGone:
        log.debug("the reader was gone", method=method, request_id=request_id)
    # the edge of the service: a bug in any layer below must answer this caller and hurt no other
    except Exception as error:
        if context.done():
            log.debug("the caller was gone", method=method, request_id=request_id, cause=repr(error))
            return
        log.exception("a bug ended a call", method=method, request_id=request_id)
        await _abort(context, bug(error, request_id), request_id)


def bug(error: Exception, request_id: str) -> InternalError:
    """What a caller is told of an error that no layer foresaw."""
    return InternalError(
        f"a bug in interpd ended this call ({type(error).__name__}); please report it with request id {request_id!r}",
        request_id=request_id,
        cause=type(error).__name__,
    )


async def _abort(context: Context, error: InterpdError, request_id: str) -> None:
    status = to_rpc_status(error)
    metadata = ((REQUEST_ID_KEY, request_id), (DETAILS_KEY, status.SerializeToString()))
    await context.abort(code_of(error), status.message, metadata)


def _request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex
