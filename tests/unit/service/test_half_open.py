"""A client whose machine went away without a word: the connection looks open, and nothing comes through it."""

import asyncio
from contextlib import suppress

import grpc
import pytest

from interpd.graph import run
from interpd.graph.ir import Graph, Prompt
from interpd.graph.run import RunRequest
from interpd.service.options import ServiceOptions
from interpd.service.server import make_server
from interpd.wire.graphs import request_to_proto
from interpd.wire.v1 import graph_service_pb2_grpc

pytestmark = pytest.mark.slow


class Wire:
    """What lies between a client and the service, until it is cut without either being told."""

    def __init__(self, port):
        self._port, self._is_whole, self._open = port, True, []

    async def start(self):
        """The port for the client."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    def cut(self):
        """From now on, what arrives on either side goes nowhere."""
        self._is_whole = False

    async def close(self):
        for writer in self._open:
            writer.close()
        self._server.close()
        await self._server.wait_closed()

    async def _connect(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._open += [writer, far_writer]
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _carry(self, reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self._is_whole:
                    writer.write(data)


async def test_a_connection_through_which_nothing_comes_any_more_releases_its_run(front):
    async def script(request):
        yield run.Queued("run-1", 0, "busy")
        await asyncio.sleep(600)

    front.script = script
    server = make_server(front, options=ServiceOptions(keepalive_s=1.0))
    wire = Wire(await server.start())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await wire.start()}") as channel:
        stub = graph_service_pb2_grpc.GraphServiceStub(channel)
        call = stub.RunGraph(request_to_proto(RunRequest("run-1", "facts", (Prompt(text="x"),), Graph((), {}))))
        await call.read()
        wire.cut()
        # the service asks after a second, and gives up twenty seconds later
        async with asyncio.timeout(50):
            while front.released != ["run-1"]:  # noqa: ASYNC110  nothing tells of it
                await asyncio.sleep(0.1)
    await wire.close()
    await server.stop(0)
