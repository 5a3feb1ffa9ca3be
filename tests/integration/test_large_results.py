"""Results that travel in pieces, through real Ray and a real socket: whatever happens when a part of one has come."""

import asyncio
import os
import signal
from contextlib import suppress

import grpc
import numpy as np
import pytest

from interpd.errors import Cancelled, WorkerLost
from interpd.graph.run import Done, Result
from interpd.service.server import make_server
from interpd.wire.events import EventAssembler
from interpd.wire.graphs import request_to_proto
from interpd.wire.status import from_rpc_error
from interpd.wire.v1 import graph_service_pb2 as pb
from interpd.wire.v1 import graph_service_pb2_grpc
from interpd.worker.pieces import PIECE_BYTES

pytestmark = pytest.mark.ray

N = 10_000_000
"""Numbers of 4 bytes: three pieces."""
TIMEOUT_S = 30.0


class Reader:
    """Reads a run in a task of its own."""

    def __init__(self, call):
        self.call, self.n_bytes, self.events, self.error = call, 0, [], None
        self.task = asyncio.ensure_future(self._read())

    async def _read(self):
        assembler = EventAssembler()
        try:
            async for answer in self.call:
                for message in (answer.event, *answer.more):
                    self.n_bytes += len(message.tensor_chunk.chunk.data)
                    if (event := assembler.feed(message)) is not None:
                        self.events.append(event)
        except grpc.RpcError as error:
            self.error = from_rpc_error(error)

    async def has(self, n_bytes):
        """Returns when so much has come, and a moment later no more."""
        await until(lambda: self.n_bytes >= n_bytes)
        await asyncio.sleep(0.1)
        assert self.n_bytes == n_bytes
        assert not self.task.done()

    async def ended(self):
        """Its events."""
        await asyncio.wait_for(self.task, TIMEOUT_S)
        return self.events


async def until(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)


def is_right(events, n=N):
    results = [event.tensor.to_numpy() for event in events if isinstance(event, Result)]
    return isinstance(events[-1], Done) and len(results) == 1 and np.array_equal(results[0], np.arange(n))


class Halfway:
    """A worker from which the first piece of a result has come, and nothing after it until ``go_on``."""

    def __init__(self, bench, stub, request_of):
        self.bench, self.stub, self._request_of = bench, stub, request_of
        self._open = asyncio.Event()

    def numbers(self, n=N, **fields):
        """A reader of a new run."""
        self.request = self._request_of("fake.numbers", params={"n": n}, **fields)
        return Reader(self.stub.RunGraph(request_to_proto(self.request)))

    def attached(self):
        """Another reader of the last run."""
        return Reader(self.stub.AttachRun(pb.AttachRunRequest(run_id=self.request.run_id)))

    async def hold_up(self):
        """From now on, what follows the first piece of a result waits."""
        self._open = asyncio.Event()
        (link,) = self.bench.pool.links("fake")
        take = type(link).take

        async def waiting():
            await self._open.wait()
            return await take(link)

        async def first():
            events = await take(link)
            if any(isinstance(event, Result) and event.arriving for event in events):
                link.take = waiting
            return events

        link.take = first
        # who waits for events already waits as before, once
        assert is_right(await self.numbers(3).ended(), 3)

    def go_on(self):
        """Lets the rest come."""
        self._open.set()

    def run(self):
        """The last run, as the scheduler knows it."""
        return self.bench.scheduler._book.find(self.request.run_id)


@pytest.fixture
async def halfway(bench, request_of):
    server = make_server(bench.scheduler)
    port = await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", 16 << 20)])
    halfway = Halfway(bench, graph_service_pb2_grpc.GraphServiceStub(channel), request_of)
    await halfway.hold_up()
    yield halfway
    halfway.go_on()
    await channel.close(0)
    await server.stop(0)


async def test_what_has_come_is_read_while_the_rest_is_on_its_way_by_any_number_of_readers(halfway):
    first = halfway.numbers(keep_s=60.0)
    await first.has(PIECE_BYTES)
    assert halfway.bench.scheduler._book.held_bytes >= 4 * N
    second, third = halfway.attached(), halfway.attached()
    await second.has(PIECE_BYTES)
    first.call.cancel()
    slow = halfway.stub.AttachRun(pb.AttachRunRequest(run_id=halfway.request.run_id))
    await slow.read()
    halfway.go_on()
    assert is_right(await second.ended())
    assert is_right(await third.ended())
    assert is_right(await halfway.attached().ended())
    assert halfway.bench.scheduler.statistics().kept_bytes >= 4 * N
    # whoever reads slowly holds up nobody, and misses nothing
    assert is_right(await halfway.numbers().ended())
    n_bytes = 0
    while (answer := await slow.read()) is not grpc.aio.EOF:
        n_bytes += sum(len(message.tensor_chunk.chunk.data) for message in (answer.event, *answer.more))
    assert n_bytes == 4 * N


async def test_a_run_that_is_cancelled_in_the_middle_of_its_result_leaves_nothing_and_mixes_with_nothing(halfway):
    for by_reader in (True, False):
        reader = halfway.numbers()
        await reader.has(PIECE_BYTES)
        if by_reader:
            reader.call.cancel()
        else:
            await halfway.stub.CancelRun(pb.CancelRunRequest(run_id=halfway.request.run_id))
        halfway.go_on()
        with suppress(asyncio.CancelledError):
            await reader.ended()
        assert by_reader or type(reader.error) is Cancelled
        await until(lambda: halfway.run() is None)
        assert halfway.bench.scheduler.statistics().kept_bytes == 0
        # what still comes of the cancelled result comes before the next one, and is not taken for it
        assert is_right(await halfway.numbers(N + 1).ended(), N + 1)
        await halfway.hold_up()


async def test_a_worker_that_dies_in_the_middle_of_a_result_is_told_to_all_who_read_it(halfway):
    readers = [halfway.numbers(keep_s=60.0)]
    await readers[0].has(PIECE_BYTES)
    readers.append(halfway.attached())
    await readers[1].has(PIECE_BYTES)
    os.kill((await halfway.bench.pids())[0], signal.SIGKILL)
    halfway.go_on()
    await readers[0].ended()
    for reader in (*readers, halfway.attached()):
        await reader.ended()
        assert type(reader.error) is WorkerLost
        assert reader.error.retry_after_s > 0
        assert reader.n_bytes < 4 * N
    assert is_right(await halfway.numbers().ended())
    # so is a model that is taken away
    await halfway.hold_up()
    reader = halfway.numbers()
    await reader.has(PIECE_BYTES)
    await halfway.bench.scheduler.unload("fake")
    await reader.ended()
    assert type(reader.error) is WorkerLost
