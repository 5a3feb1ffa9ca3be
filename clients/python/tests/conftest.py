import asyncio
import signal
import threading
from contextlib import suppress

import pytest

import interpd_client as interpd
from interpd_client.testing import FakeTransport, fake_manifest


@pytest.fixture
def transport():
    """A service that remembers what it was asked."""
    return FakeTransport(fake_manifest(n_layers=3))


@pytest.fixture
def client(transport):
    with interpd.Client(transport, progress=False) as client:
        yield client


@pytest.fixture
def model(client):
    return client.model("fake")


@pytest.fixture
def sent(transport):
    """Gives the nodes that the only request of a test carried."""

    def nodes():
        (request,) = transport.requests
        return list(request.graph.nodes)

    return nodes


class Loopback:
    """A gRPC server of a front, in a thread of its own."""

    def __init__(self, make_front):
        self.make_front = make_front
        self.started = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=lambda: self.loop.run_until_complete(self.serve()))

    async def serve(self):
        from interpd.service.server import make_server  # needs more than the light base

        self.front = self.make_front()
        self.stopped = asyncio.Event()
        self.server = make_server(self.front)
        self.address = f"127.0.0.1:{await self.server.start()}"
        clock = asyncio.ensure_future(self.front.run_clock())
        self.started.set()
        await self.stopped.wait()
        await self.server.stop(0.5)
        await self.front.drain(0.5)
        clock.cancel()
        with suppress(asyncio.CancelledError):
            await clock

    def __enter__(self):
        self.thread.start()
        assert self.started.wait(60), "the server did not start"
        return self

    def __exit__(self, *error):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture(scope="session")
def loopback():
    """Serves a front until the end of a ``with`` block."""
    return Loopback


@pytest.fixture
def sigint():
    """Ctrl-C interrupts, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.SIGINT
    signal.signal(signal.SIGINT, before)
