import asyncio
import threading

import pytest

from interpd.config import ModelSpec
from interpd.errors import InvalidRequest, WorkerLost
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import TERMINAL, Done, RunRequest
from interpd.testing.fake_engine import FakeEngine
from interpd.worker.options import ReplicaOptions
from interpd.worker.thread_link import ThreadStarter

OPTIONS = ReplicaOptions(ModelSpec("fake:x", name="fake"), artifact_dir="")


def request(run_id, op="fake.echo", **params):
    graph = Graph((Node(op, params=params or {"value": 1.0}),), {"x": Ref(0)})
    return RunRequest(run_id, "fake", (Prompt(text="hi"),), graph)


@pytest.fixture
async def starter():
    before = set(threading.enumerate())
    starter = ThreadStarter(lambda options, report: FakeEngine(options.spec.name))
    yield starter
    starter.join(10.0)
    assert not [new for new in set(threading.enumerate()) - before if new.name == "interpd-engine"]


@pytest.fixture
async def link(starter):
    link = starter.start("fake/0.1", OPTIONS, lambda link, events: None)
    await link.start()
    yield link
    link.kill()


async def taken(link):
    events = []
    while not (events and isinstance(events[-1], TERMINAL)):
        events += await link.take()
    return events


async def test_runs_go_in_and_their_events_come_out(link):
    link.submit([request("r-1")])
    assert isinstance((await taken(link))[-1], Done)
    link.submit([request("r-2", "fake.sleep", seconds=60.0)])
    link.cancel(["r-2"])
    assert type((await taken(link))[-1]).__name__ == "Cancelled"
    assert (await link.look()).n_steps > 0
    assert link.statistics().resident_bytes > 0


async def test_a_thread_that_was_told_to_end_answers_as_a_process_that_is_gone(link):
    assert (await link.tokenize([Prompt(text="ab")]))[0].ids == (97, 98)
    link.kill()
    link.kill()
    with pytest.raises(WorkerLost, match="the worker of model 'fake' was lost: it was stopped"):
        await link.tokenize([Prompt(text="ab")])


async def test_whoever_waits_for_an_answer_hears_of_the_end():
    entered, may_go_on = threading.Event(), threading.Event()

    class Slow(FakeEngine):
        def tokenize(self, prompts):
            entered.set()
            may_go_on.wait(20.0)
            return super().tokenize(prompts)

    starter = ThreadStarter(lambda options, report: Slow())
    link = starter.start("fake/0.1", OPTIONS, lambda link, events: None)
    await link.start()
    waiting = asyncio.ensure_future(link.tokenize([Prompt(text="ab")]))
    await asyncio.to_thread(entered.wait, 20.0)
    link.kill()
    with pytest.raises(WorkerLost, match="it was stopped"):
        await waiting
    may_go_on.set()
    starter.join(10.0)


@pytest.mark.parametrize("asked", [{"num_gpus": 1.0}, {"num_cpus": 4.0}, {"replicas": 2}])
def test_what_means_processes_is_refused(asked):
    (name,) = asked
    with pytest.raises(InvalidRequest, match=f"{name} is for models in processes of their own"):
        ThreadStarter(None).placed(ModelSpec("x", name="x", **asked))
