"""The fastest that gRPC in Python does: one process that streams bytes which it holds, one that reads them."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from types import TracebackType

import grpc

PIECE_BYTES = 1 << 20
METHOD = "/raw/Stream"


class RawStream:
    """A server of ``n_bytes`` in a process of its own, and a ``grpc.aio`` client in this one."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, n_bytes), daemon=True)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> "RawStream":
        self._process.start()
        self._address = f"127.0.0.1:{self._pipe.recv()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.close()
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def read(self) -> None:
        """Reads the whole stream."""
        self._loop.run_until_complete(self._read())

    async def _read(self) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            pieces = [piece async for piece in channel.unary_stream(METHOD)(b"")]
        assert sum(map(len, pieces)) == self._n_bytes


def _serve(pipe: Connection, n_bytes: int) -> None:
    asyncio.run(_server(pipe, n_bytes))


async def _server(pipe: Connection, n_bytes: int) -> None:
    held = memoryview(bytes(n_bytes))

    async def stream(request: bytes, context: object) -> AsyncIterator[bytes]:
        for start in range(0, n_bytes, PIECE_BYTES):
            yield bytes(held[start : start + PIECE_BYTES])

    server = grpc.aio.server()
    handlers = {"Stream": grpc.unary_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raw", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    await server.wait_for_termination()
