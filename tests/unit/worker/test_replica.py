"""The supervision of a replica, over hosts that are objects of the test."""

import asyncio

import pytest

from interpd.config import ModelSpec, WorkerConfig
from interpd.errors import InternalError, WorkerLost
from interpd.worker import replica as supervision
from interpd.worker.link import Lost
from interpd.worker.options import Busy, ReplicaOptions
from interpd.worker.replica import Replica

IDLE = Busy()


class Link:
    """A host that serves until it is killed."""

    def __init__(self, busy=IDLE):
        self.is_killed = False
        self.last_busy = busy

    async def start(self):
        return None

    async def describe(self):
        return None

    async def look(self):
        return self.last_busy

    async def take(self):
        await asyncio.sleep(0)
        return []

    def kill(self):
        self.is_killed = True


class Starter:
    def __init__(self, busy=IDLE):
        self.links, self._busy = [], busy

    def start(self, name, options, on_events):
        self.links.append(Link(self._busy))
        return self.links[-1]


class Keeper:
    """A keeper with a bug."""

    def __init__(self):
        self.failed = asyncio.get_running_loop().create_future()

    async def equip(self, link):
        return None

    def on_ready(self, replica, link, manifest):
        return None

    def on_events(self, link, events):
        raise AttributeError("a bug")

    def on_lost(self, replica, link, lost: Lost):
        raise AssertionError("nothing was lost")

    def on_failed(self, replica, error):
        self.failed.set_result(error)


class LostKeeper(Keeper):
    """A keeper that waits for a loss."""

    def on_events(self, link, events):
        return None

    def on_lost(self, replica, link, lost):
        if not self.failed.done():
            self.failed.set_result(lost.error)


class ProgressKeeper(LostKeeper):
    """A keeper that waits for a word on the loading."""

    def on_progress(self, replica, text):
        if not self.failed.done():
            self.failed.set_result(text)


class Loading(Link):
    """A host that never gets ready."""

    async def start(self):
        await asyncio.sleep(3600)

    async def progress(self):
        return "loading weights: 1 of 2 tensors"


OPTIONS = ReplicaOptions(ModelSpec("x", name="m"), "")


@pytest.mark.parametrize(
    ("busy", "why"),
    [
        (Busy(resident_bytes=2000), "it held 2000 bytes of memory, more than 1000 "),
        (Busy(files_share=0.95), "it held 95% of the files"),
        (Busy(n_threads=5000), "it ran 5000 threads, more than 2000"),
    ],
)
async def test_a_process_that_leaks_is_started_again(busy, why):
    keeper = LostKeeper()
    config = WorkerConfig(op_timeout_s=0.1, max_resident_bytes=1000)
    replica = Replica(0, OPTIONS, config, Starter(busy), keeper)
    error = await asyncio.wait_for(keeper.failed, 10.0)
    assert type(error) is WorkerLost
    assert why in error.message
    await replica.stop()


async def test_a_replica_whose_supervision_breaks_has_failed_and_does_not_stay_as_it_was():
    keeper, starter = Keeper(), Starter()
    replica = Replica(0, OPTIONS, WorkerConfig(), starter, keeper)
    error = await asyncio.wait_for(keeper.failed, 10.0)
    assert type(error) is InternalError
    assert "supervision of model 'm' raised AttributeError: a bug" in error.message
    assert starter.links[0].is_killed
    await replica.stop()


async def test_how_far_a_loading_is_is_told(monkeypatch):
    monkeypatch.setattr(supervision, "PROGRESS_S", 0.01)
    keeper, starter = ProgressKeeper(), Starter()
    monkeypatch.setattr(starter, "start", lambda *_: Loading())
    replica = Replica(0, OPTIONS, WorkerConfig(), starter, keeper)
    assert await asyncio.wait_for(keeper.failed, 30.0) == "loading weights: 1 of 2 tensors"
    await replica.stop()


@pytest.mark.slow
async def test_a_loading_that_takes_too_long_says_how_far_it_was(monkeypatch):
    monkeypatch.setattr(supervision, "PROGRESS_S", 0.01)
    keeper, starter = LostKeeper(), Starter()
    keeper.on_progress = lambda *_: None
    monkeypatch.setattr(starter, "start", lambda *_: Loading())
    replica = Replica(0, OPTIONS, WorkerConfig(load_timeout_s=0.5), starter, keeper)
    error = await asyncio.wait_for(keeper.failed, 30.0)
    assert str(error) == "model 'm' was not loaded after 0.5 s; it was loading weights: 1 of 2 tensors"
    await replica.stop()
