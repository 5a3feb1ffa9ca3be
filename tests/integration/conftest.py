"""Real Ray, one per session; real daemons: with fake engines one per module, with the real one one per session."""

import asyncio
import importlib.util
import itertools
import shutil
import sys
import threading
import time
from contextlib import aclosing
from pathlib import Path

import grpc
import psutil
import pytest
from interpd_client.grpc_transport import GrpcTransport

from interpd.config import Config, ModelSpec, WorkerConfig
from interpd.errors import InterpdError
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import Done, RunRequest
from interpd.scheduler.scheduler import Scheduler
from interpd.testing.daemon_process import DaemonProcess
from interpd.testing.fake_daemon import FAKE_ENGINES
from interpd.wire.v1 import graph_service_pb2_grpc
from interpd.worker.cluster import Cluster
from interpd.worker.pool import Pool
from interpd.worker.ray_link import RayStarter

# import mode importlib gives test modules no package to import from
_SPEC = importlib.util.spec_from_file_location("load", Path(__file__).with_name("load.py"))
sys.modules["load"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules["load"])

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
        self.pool = Pool(Config(worker=WorkerConfig(**settings)), cluster.state_dir, RayStarter(FAKE_ENGINES))
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


BAD_ENTRIES = {
    "bad": "interpd_bad",
    "broken": "interpd_bad_import",
    "missing": "interpd_bad:nothing",
    "gone": "interpd_bad_gone",
    "newer": "interpd_bad_newer",
    "unused": "interpd_bad_newer",
}
"""Entry points of the plugin."""
BAD_PLUGIN = Path(__file__).with_name("bad_plugin")
LAB_TIMEOUT_S = 2.0
PROMPT = "Elena Marsh was born in"


class Asked(threading.Thread):
    """A run in a thread of its own."""

    def __init__(self, transport, request):
        super().__init__()
        self._transport, self._request = transport, request
        self.run_id, self.events, self.running = request.run_id, [], threading.Event()
        self._error = None
        self.start()

    def run(self):
        try:
            for event in self._transport.run(self._request):
                self.events.append(event)
                if type(event).__name__ in ("Started", "Progress", "TokenGenerated"):
                    self.running.set()
        except InterpdError as error:
            self._error = error

    def end(self, timeout_s=60.0):
        """Its last event, or its error."""
        self.join(timeout_s)
        assert not self.is_alive(), "the run goes on"
        return self._error or self.events[-1]

    def value(self):
        """Its only output."""
        assert isinstance(self.end(), Done), self.end()
        return self.events[-2].tensor.to_numpy()


class Lab:
    """A daemon with the real engine, the bundled model and a plugin that does everything wrong."""

    def __init__(self, daemon):
        self.daemon, self.address = daemon, daemon.address
        self._transports = []

    def transport(self):
        """A client of its own."""
        self._transports.append(GrpcTransport(self.address))
        return self._transports[-1]

    def graph(self, op=None, layer=2):
        """One read, and one operation on it."""
        nodes = (Node("site.read", params={"site": f"layers.{layer}.resid_post"}),)
        nodes += () if op is None else (Node(op, (Ref(0),)),)
        return Graph(nodes, {"value": Ref(len(nodes) - 1)})

    def request(self, op=None, *, graph=None, prompt=PROMPT, **fields):
        """A run of ``op`` on a value of the model; of a method when its name says so."""
        if graph is None:
            is_method = op is not None and ".method_" in op
            graph = Graph((Node(op),), {"value": Ref(0)}) if is_method else self.graph(op)
        return RunRequest(f"lab-{next(NUMBERS)}", "facts", (Prompt(text=prompt),), graph, **fields)

    def ask(self, op=None, **fields):
        """A run in a thread of its own."""
        return Asked(self.transport(), self.request(op, **fields))

    def value(self, **fields):
        """The only output of a run that must be done."""
        return self.ask(**fields).value()

    def statistics(self):
        """Of the bundled model."""
        return next(model for model in self.transport().statistics(10.0).models if model.name == "facts")

    def worker(self):
        """The process that holds the bundled model."""
        living = [p for p in self.daemon.descendants() if p.status() != psutil.STATUS_ZOMBIE]
        return next(p for p in living if p.cmdline()[:1] and "ReplicaActor" in p.cmdline()[0])

    def wait_idle(self, timeout_s=15.0):
        """Returns when no run is held any more."""
        deadline = time.monotonic() + timeout_s
        while (now := self.statistics()).n_running + now.n_queued:
            assert time.monotonic() < deadline, now
            time.sleep(0.05)

    def close(self):
        for transport in self._transports:
            transport.close()


@pytest.fixture(scope="session")
def bad_plugin(tmp_path_factory):
    """The folder where the plugin is installed; while it lasts, daemons that start find it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(BAD_PLUGIN, site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    facts = site / "interpd_bad-0.1.dist-info"
    facts.mkdir()
    facts.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: interpd-bad\nVersion: 0.1\n")
    points = "".join(f"{name} = {target}\n" for name, target in BAD_ENTRIES.items())
    facts.joinpath("entry_points.txt").write_text(f"[interpd.plugins]\n{points}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        yield site


@pytest.fixture(scope="session")
def lab_daemon(bad_plugin):
    settings = ("--worker-op-timeout-s", str(LAB_TIMEOUT_S), "--worker-restart-backoff-s", "0.1")
    names = [name for name in BAD_ENTRIES if name != "unused"] + ["absent"]
    plugins = [word for name in names for word in ("--plugin", name)]
    with DaemonProcess("interpd", "serve", "--port", "0", "--model", "facts", *plugins, *settings) as daemon:
        yield daemon


@pytest.fixture
def lab(lab_daemon):
    """The real daemon; each test leaves it serving."""
    lab = Lab(lab_daemon)
    yield lab
    lab.close()


@pytest.fixture
def channel(lab):
    """A connection for messages that no client sends."""
    with grpc.insecure_channel(lab.address) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    """The methods of runs."""
    return graph_service_pb2_grpc.GraphServiceStub(channel)


@pytest.fixture
def own_lab():
    """Starts daemons with the real engine and the bundled model for one test, with further settings."""
    labs = []

    def start(*settings):
        daemon = DaemonProcess("interpd", "serve", "--port", "0", "--model", "facts", *settings)
        daemon.start()
        labs.append(Lab(daemon))
        return labs[-1]

    yield start
    for lab in labs:
        lab.close()
        lab.daemon.stop()


@pytest.fixture(scope="module")
def daemon():
    """A daemon with one fake model, for tests that leave it as it was."""
    with DaemonProcess("interpd.testing.fake_daemon", "port=0", "models=fake:x=fake") as daemon:
        yield daemon
