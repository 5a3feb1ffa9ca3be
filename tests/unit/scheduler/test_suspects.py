import pytest

from interpd.errors import OpFailed, WorkerLost
from interpd.graph.run import Done


def crash(bench):
    """Takes the only replica away and brings another."""
    bench.workers.lose(bench.workers.links("fake")[0])
    bench.workers.restart("fake")


def send(bench, text="poison", **fields):
    return bench.submit("fake.sleep", text=text, **fields)


def error_of(bench, hold):
    return type(bench.ended(hold).error)


async def test_a_request_that_was_there_at_two_deaths_runs_alone(bench):
    for _ in range(2):
        hold = send(bench)
        crash(bench)
        assert error_of(bench, hold) is WorkerLost
    poison, neighbour = send(bench), bench.submit()
    assert (bench.state(poison), bench.state(neighbour)) == ("running", "queued")
    crash(bench)
    assert error_of(bench, poison) is OpFailed
    assert "died 3 times while it held this request" in bench.ended(poison).error.message
    bench.finish()
    assert isinstance(bench.ended(neighbour), Done)


async def test_a_suspect_waits_until_its_replica_is_free(bench):
    for _ in range(2):
        send(bench)
        crash(bench)
    first, suspect, behind = bench.submit(), send(bench), bench.submit()
    assert [bench.state(hold) for hold in (first, suspect, behind)] == ["running", "queued", "queued"]
    bench.finish()
    assert bench.state(suspect) == "running"
    assert bench.state(behind) == "queued"


async def test_what_is_known_to_end_workers_is_refused_for_a_while(bench):
    for _ in range(3):
        send(bench)
        crash(bench)
    with pytest.raises(OpFailed, match="has ended its worker 3 times, the last time alone; it is refused for 600 s"):
        send(bench)
    send(bench, text="something else")
    bench.clock.advance(601.0)
    send(bench)


async def test_an_innocent_neighbour_is_cleared_when_it_ends(bench):
    for _ in range(2):
        send(bench)
        innocent = send(bench, text="innocent")
        crash(bench)
    innocent = send(bench, text="innocent")
    bench.workers.step()
    bench.clock.advance(10.0)
    bench.finish()
    assert isinstance(bench.ended(innocent), Done)
    bench.submit()
    send(bench, text="innocent")
    assert bench.scheduler.statistics().models[0].n_running == 2


async def test_a_cancelled_suspect_is_still_one(bench):
    for _ in range(2):
        send(bench)
        crash(bench)
    send(bench, keep_s=9.0).cancel()
    crash(bench)
    with pytest.raises(OpFailed, match="is refused"):
        send(bench)


async def test_a_suspect_that_had_company_after_all_is_not_blamed(make_bench):
    bench = make_bench()
    for _ in range(2):
        send(bench)
        crash(bench)
    suspect = send(bench)
    bench.scheduler._held[bench.workers.links("fake")[0].name].add("another")
    crash(bench)
    assert error_of(bench, suspect) is WorkerLost


async def test_unloading_a_model_forgets_its_suspects(bench):
    from interpd.config import ModelSpec

    for _ in range(3):
        send(bench)
        crash(bench)
    await bench.scheduler.unload("fake")
    await bench.scheduler.load(ModelSpec("fake:x", name="fake"))
    send(bench)
