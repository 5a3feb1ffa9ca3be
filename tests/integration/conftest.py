"""Real Ray, one per session; real daemons, one per module."""

import asyncio
import itertools
from contextlib import aclosing

import pytest

from interpd.config import Config, ModelSpec, WorkerConfig
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest
from interpd.scheduler.scheduler import Scheduler
from interpd.testing.daemon_process import DaemonProcess
from interpd.testing.fake_daemon import FAKE_ENGINES
from interpd.worker.cluster import Cluster
from interpd.worker.pool import RayPool

OP_TIMEOUT_S = 2.0
NUMBERS = itertools.count()

_PARAMS = {
    "fake.echo": {"value": 1.0},
    "fake.sleep": {"seconds": 60.0},
    "fake.hang": {"seconds": 600.0},
    "fake.fail": {"message": "no"},
    "fake.numbers": {"n": 1_000_000},
}


def make_request(op="fake.echo", model="fake", params=None, **fields):
    graph = Graph((Node(op, params=params or _PARAMS.get(op, {})),), {"value": Ref(0)})
    return RunRequest(f"run-{next(NUMBERS)}", model, (Prompt(text="hello"),), graph, **fields)


@pytest.fixture
def request_of():
    return make_request


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster()
    cluster.start()
    yield cluster
    cluster.stop()


class Bench:
    """A scheduler over real replicas with fake engines."""

    def __init__(self, cluster, **worker):
        settings = {"op_timeout_s": OP_TIMEOUT_S, "restart_backoff_s": 0.1, **worker}
        self.pool = RayPool(Config(worker=WorkerConfig(**settings)), cluster.state_dir, engine_factory=FAKE_ENGINES)
        self.scheduler = Scheduler(self.pool, Config().scheduler, unload_grace_s=1.0)
        self._clock = asyncio.ensure_future(self.scheduler.run_clock())

    async def load(self, name="fake", source="fake:x", **fields):
        return await self.scheduler.load(ModelSpec(source, name=name, **fields))

    def submit(self, *args, **fields):
        return self.scheduler.submit(make_request(*args, **fields))

    async def run(self, *args, **fields):
        return await self.end(self.submit(*args, **fields))

    async def end(self, hold):
        """The terminal event of a run."""
        try:
            return [event async for event in hold.events()][-1]
        finally:
            hold.release()

    async def until(self, condition, name="fake"):
        """Waits until the status of a model meets the condition; the status."""
        async with asyncio.timeout(30), aclosing(self.scheduler.watch_models()) as watch:
            while True:
                found = [status for status in await anext(watch) if status.name == name and condition(status)]
                if found:
                    return found[0]

    async def pids(self, name="fake"):
        return [await link.actor.pid.remote() for link in self.pool.links(name)]

    async def close(self):
        self._clock.cancel()
        await self.pool.close()


@pytest.fixture
async def make_bench(cluster):
    benches = []

    def make(**worker):
        benches.append(Bench(cluster, **worker))
        return benches[-1]

    yield make
    for bench in benches:
        await bench.close()


@pytest.fixture
async def bench(make_bench):
    bench = make_bench()
    await bench.load()
    return bench


@pytest.fixture
def fake_daemon():
    """Starts real daemons on fake engines; all are ended."""
    started = []

    def start(*settings):
        daemon = DaemonProcess("interpd.testing.fake_daemon", "port=0", *(settings or ("models=fake:x=fake",)))
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in started:
        daemon.stop()


@pytest.fixture(scope="module")
def daemon():
    """A daemon with one fake model, for tests that leave it as it was."""
    with DaemonProcess("interpd.testing.fake_daemon", "port=0", "models=fake:x=fake") as daemon:
        yield daemon
