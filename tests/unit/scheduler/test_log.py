import asyncio

import pytest

from interpd.errors import RunNotFound
from interpd.graph.run import Cancelled, Progress, Result
from interpd.graph.types import TensorData
from interpd.scheduler.log import EVENT_BYTES, EventLog


def tensor_event():
    return Result("r", "x", TensorData("uint8", (3,), b"abc"))


async def read(log, start=0):
    return [event async for event in log.read(start)]


async def test_a_reader_waits_for_events_and_stops_after_the_last():
    log = EventLog("r", keeps=True)
    reader = asyncio.ensure_future(read(log))
    await asyncio.sleep(0)
    log.append(Progress("r", 1, 2))
    await asyncio.sleep(0)
    log.append(Cancelled("r", "running"))
    assert await reader == [Progress("r", 1, 2), Cancelled("r", "running")]


async def test_several_readers_read_what_is_kept():
    log = EventLog("r", keeps=True)
    log.append(tensor_event())
    log.append(Cancelled("r", "running"))
    assert await read(log) == await read(log)
    assert await read(log, 1) == [Cancelled("r", "running")]
    assert log.n_bytes == 3 + 2 * EVENT_BYTES


async def test_what_is_not_kept_is_dropped_once_read():
    log = EventLog("r", keeps=False)
    log.append(tensor_event())
    log.append(Cancelled("r", "running"))
    assert len(await read(log)) == 2
    assert log.n_bytes == 0
    with pytest.raises(RunNotFound, match="events 0 to 1 of run 'r' are not kept; submit with keep_s > 0"):
        await read(log)


async def test_a_reader_that_gives_up_hurts_nobody():
    log = EventLog("r", keeps=True)
    reader = asyncio.ensure_future(read(log))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.sleep(0)
    log.append(Cancelled("r", "running"))
    assert len(await read(log)) == 1


def test_nothing_follows_the_terminal_event():
    log = EventLog("r", keeps=True)
    log.append(Cancelled("r", "running"))
    with pytest.raises(AssertionError):
        log.append(Progress("r", 1, 2))
