"""The supervision of a replica, over hosts that are objects of the test."""

import asyncio

from interpd.config import ModelSpec, WorkerConfig
from interpd.errors import InternalError
from interpd.worker.link import Lost
from interpd.worker.options import Busy, ReplicaOptions
from interpd.worker.replica import Replica


class Link:
    """A host that serves until it is killed."""

    def __init__(self):
        self.is_killed = False
        self.last_busy = Busy()

    async def start(self):
        return None

    async def describe(self):
        return None

    async def look(self):
        return Busy()

    async def take(self):
        await asyncio.sleep(0)
        return []

    def kill(self):
        self.is_killed = True


class Starter:
    def __init__(self):
        self.links = []

    def start(self, name, options, on_events):
        self.links.append(Link())
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


async def test_a_replica_whose_supervision_breaks_has_failed_and_does_not_stay_as_it_was():
    keeper, starter = Keeper(), Starter()
    options = ReplicaOptions(ModelSpec("x", name="m"), "")
    replica = Replica(0, options, WorkerConfig(), starter, keeper)
    error = await asyncio.wait_for(keeper.failed, 10.0)
    assert type(error) is InternalError
    assert "supervision of model 'm' raised AttributeError: a bug" in error.message
    assert starter.links[0].is_killed
    await replica.stop()
