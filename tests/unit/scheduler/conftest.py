import pytest

from interpd.config import SchedulerConfig
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest
from interpd.graph.schema import Limits
from interpd.scheduler.scheduler import Scheduler
from interpd.testing.fake_workers import FakeWorkers, ManualClock


class Bench:
    """A scheduler over fake workers, with a clock that stands still."""

    def __init__(self, models=("fake",), n_replicas=1, limits=None, **config):
        self.clock = ManualClock()
        self.workers = FakeWorkers(models, n_replicas=n_replicas, limits=limits or Limits(), clock=self.clock)
        self.scheduler = Scheduler(
            self.workers, SchedulerConfig(**config), unload_grace_s=0.05, clock=self.clock, wall=self.clock
        )
        self._n = 0

    def request(self, op="fake.echo", model="fake", text="hello", **fields):
        self._n += 1
        params = {"fake.echo": {"value": 1.0}, "fake.sleep": {"seconds": 10.0}, "fake.fail": {"message": "no"}}
        graph = Graph((Node(op, params=params.get(op, {})),), {"value": Ref(0)})
        return RunRequest(f"r{self._n}", model, (Prompt(text=text),), graph, **fields)

    def submit(self, *args, **fields):
        return self.scheduler.submit(self.request(*args, **fields))

    def finish(self):
        for _ in range(20):
            self.workers.step()

    def state(self, hold):
        return hold._run.state.value

    def ended(self, hold):
        return hold._run.log.ended


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def make_bench():
    return Bench


@pytest.fixture
def names_of():
    async def names(hold, start=0):
        try:
            return [type(event).__name__ async for event in hold.events(start)]
        finally:
            hold.release()

    return names
