import asyncio
import os
import signal
import time

import pytest

from interpd.errors import ModelNotReady, OpFailed, WorkerLost
from interpd.graph.run import Done

pytestmark = pytest.mark.ray

SOON_S = 5.0
"""Within which a lost worker is told to those who wait."""


async def wait_started(hold):
    async for event in hold.events():
        if type(event).__name__ in ("Started", "Progress"):
            return


async def test_a_worker_killed_in_mid_pass_fails_its_runs_soon_and_comes_back(bench):
    holds = [bench.submit("fake.sleep", keep_s=60.0) for _ in range(3)]
    await asyncio.gather(*map(wait_started, holds))
    (pid,) = await bench.pids()
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    ends = await asyncio.gather(*map(bench.end, holds))
    assert time.monotonic() - killed < SOON_S
    assert all(isinstance(end.error, WorkerLost) and end.error.retry_after_s > 0 for end in ends)
    assert isinstance(await bench.run(), Done)
    assert bench.scheduler.models()[0].n_restarts == 1


async def test_a_request_that_crashes_the_worker_does_not_keep_the_model_down(bench):
    end = await bench.run("fake.crash")
    assert isinstance(end.error, WorkerLost)
    assert isinstance(await bench.run(), Done)


async def test_a_hanging_operation_is_stopped_and_named_and_its_neighbours_may_try_again(bench):
    neighbour = bench.submit("fake.sleep")
    culprit = bench.submit("fake.hang")
    bad, innocent = await asyncio.gather(bench.end(culprit), bench.end(neighbour))
    assert isinstance(bad.error, OpFailed)
    assert bad.error.message.startswith("'op fake.hang@1' took longer than 2 s (worker.op_timeout_s)")
    assert isinstance(innocent.error, WorkerLost)
    assert isinstance(await bench.run(), Done)


async def test_an_operation_that_never_gives_up_the_interpreter_is_stopped_too(bench):
    started = time.monotonic()
    end = await bench.run("fake.seize")
    assert isinstance(end.error, WorkerLost | OpFailed)
    assert time.monotonic() - started < 15.0
    assert isinstance(await bench.run(), Done)


async def test_a_long_run_of_short_steps_is_not_a_hang(bench):
    assert isinstance(await bench.run(params={"seconds": 5.0}, op="fake.sleep"), Done)
    assert bench.scheduler.models()[0].n_restarts == 0


async def test_runs_that_wait_survive_the_restart(make_bench):
    bench = make_bench()
    await bench.load()
    (pid,) = await bench.pids()
    os.kill(pid, signal.SIGKILL)
    await bench.until(lambda status: status.state == "restarting")
    assert isinstance(await bench.run(), Done)


async def test_uploaded_artifacts_survive_a_restart(bench):
    await bench.scheduler.put_artifact("fake", "mine", "fake", b"some bytes")
    (pid,) = await bench.pids()
    os.kill(pid, signal.SIGKILL)
    await bench.until(lambda status: status.state == "restarting")
    assert isinstance(await bench.run(), Done)
    assert "mine" in (await bench.pool.links("fake")[0].describe()).artifacts


async def test_a_replica_learns_what_came_and_went_while_it_started(bench):
    await bench.scheduler.put_artifact("fake", "new", "fake", b"new")
    (link,) = bench.pool.links("fake")
    await link.drop_artifact("new")
    await link.put_artifact("old", "fake", b"old")
    (replica,) = bench.pool._models["fake"].replicas
    bench.pool.on_ready(replica, link, await link.describe())
    async with asyncio.timeout(10):
        while (await link.describe()).artifacts.keys() != {"new"}:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.05)
    assert (await bench.scheduler.get_artifact("fake", "new"))[1] == b"new"


async def test_one_of_two_replicas_goes_on_when_the_other_dies(make_bench):
    bench = make_bench()
    await bench.load(replicas=2)
    await bench.until(lambda status: status.n_ready == 2)
    first, second = (bench.submit("fake.sleep", params={"seconds": 3.0}) for _ in range(2))
    os.kill((await bench.pids())[0], signal.SIGKILL)
    ends = await asyncio.gather(bench.end(first), bench.end(second))
    assert sorted(type(end).__name__ for end in ends) == ["Done", "Failed"]
    assert isinstance(await bench.run(), Done)


async def test_a_replica_that_cannot_come_back_has_failed_with_its_cause(make_bench, tmp_path):
    bench = make_bench(max_restarts=2)
    flag = tmp_path / "loads"
    flag.touch()
    await bench.load(source=f"fake:while:{flag}")
    flag.unlink()
    waiting = bench.submit("fake.sleep", keep_s=60.0)
    os.kill((await bench.pids())[0], signal.SIGKILL)
    await bench.end(waiting)
    status = await bench.until(lambda status: status.state == "failed")
    assert "cannot be loaded" in status.detail
    with pytest.raises(ModelNotReady, match="model 'fake' is failed: "):
        bench.submit()
    flag.touch()
    assert (await bench.load(source=f"fake:while:{flag}")).state == "ready"
