import asyncio

import pytest

from interpd.config import ModelSpec
from interpd.errors import (
    DeadlineExceeded,
    Draining,
    InvalidGraph,
    InvalidRequest,
    LimitExceeded,
    ModelNotFound,
    ModelNotReady,
    OpFailed,
    Overloaded,
    RunNotFound,
    WorkerLost,
)
from interpd.graph.run import Cancelled, Done, Failed, Queued
from interpd.worker.link import FAILED, Lost, ModelStatus


async def test_a_run_goes_from_started_to_done(bench, names_of):
    hold = bench.submit()
    bench.finish()
    assert await names_of(hold) == ["Started", "Result", "Done"]


async def test_done_says_how_long_the_run_waited(make_bench):
    bench = make_bench(max_in_flight=1)
    bench.submit("fake.sleep")
    hold = bench.submit()
    bench.workers.step()
    bench.clock.advance(10.0)
    bench.finish()
    assert bench.ended(hold).cost.queued_ms == pytest.approx(10_000)


async def test_a_failing_operation_ends_only_its_own_run(bench):
    bad, good = bench.submit("fake.fail"), bench.submit()
    bench.finish()
    assert isinstance(bench.ended(bad).error, OpFailed)
    assert isinstance(bench.ended(good), Done)


async def test_runs_beyond_the_room_wait_and_hear_their_position(make_bench):
    bench = make_bench(max_in_flight=1)
    first, second, third = bench.submit(), bench.submit(), bench.submit()
    assert [bench.state(h) for h in (first, second, third)] == ["running", "queued", "queued"]
    assert [e.position async for e in _only_first(third)] == [1]
    bench.finish()
    assert isinstance(bench.ended(third), Done)


async def _only_first(hold):
    async for event in hold.events():
        assert isinstance(event, Queued)
        yield event
        return


async def test_positions_are_told_again_when_they_change(make_bench, names_of):
    bench = make_bench(max_in_flight=1)
    bench.submit("fake.sleep")
    second, third = bench.submit(), bench.submit()
    bench.scheduler.tick()
    second.cancel()
    bench.scheduler.tick()
    bench.scheduler.tick()
    third.cancel()
    assert await names_of(third) == ["Queued", "Queued", "Cancelled"]


async def test_a_cancel_ends_the_run_at_once_and_keeps_its_place_until_the_engine_lets_go(make_bench):
    bench = make_bench(max_in_flight=1)
    first, second = bench.submit("fake.sleep"), bench.submit()
    first.cancel()
    assert bench.ended(first) == Cancelled("r1", "running")
    assert bench.state(second) == "queued"
    bench.finish()
    assert isinstance(bench.ended(second), Done)


async def test_a_queued_run_is_cancelled_as_queued(make_bench):
    bench = make_bench(max_in_flight=1)
    bench.submit("fake.sleep")
    hold = bench.submit()
    bench.scheduler.cancel(hold.run_id)
    bench.scheduler.cancel(hold.run_id)
    assert bench.ended(hold) == Cancelled("r2", "queued")
    assert bench.scheduler.statistics().models[0].n_queued == 0


async def test_the_last_reader_that_goes_cancels_the_run(bench):
    hold = bench.submit("fake.sleep")
    hold.release()
    hold.release()
    assert isinstance(bench.ended(hold), Cancelled)
    with pytest.raises(RunNotFound, match="no run 'r1'"):
        bench.scheduler.attach("r1")


async def test_a_run_with_keep_outlives_its_reader_for_that_long(bench):
    hold = bench.submit("fake.sleep", keep_s=5.0)
    hold.release()
    bench.clock.advance(4.0)
    bench.scheduler.tick()
    assert bench.ended(hold) is None
    again = bench.scheduler.attach("r1")
    bench.clock.advance(100.0)
    bench.scheduler.tick()
    again.release()
    bench.clock.advance(5.0)
    bench.scheduler.tick()
    assert isinstance(bench.ended(hold), Cancelled)


async def test_a_kept_run_is_replayed_from_any_event(bench, names_of):
    hold = bench.submit(keep_s=60.0)
    bench.finish()
    assert await names_of(hold) == ["Started", "Result", "Done"]
    assert await names_of(bench.scheduler.attach("r1"), start=1) == ["Result", "Done"]
    bench.clock.advance(61.0)
    bench.scheduler.tick()
    with pytest.raises(RunNotFound):
        bench.scheduler.attach("r1")


async def test_what_is_kept_of_ended_runs_is_bounded(make_bench):
    bench = make_bench(kept_bytes=8_000)
    holds = [bench.submit(keep_s=60.0) for _ in range(5)]
    bench.finish()
    for hold in holds:
        hold.release()
    assert 0 < bench.scheduler.statistics().kept_bytes <= 8_000
    assert all(hold._run.request.graph.nodes == () for hold in holds)
    assert bench.scheduler.attach("r5").run_id == "r5"
    with pytest.raises(RunNotFound):
        bench.scheduler.attach("r1")


async def test_a_deadline_ends_queued_and_running_runs(make_bench):
    bench = make_bench(max_in_flight=1)
    running = bench.submit("fake.sleep", deadline_s=bench.clock() + 1)
    queued = bench.submit(deadline_s=bench.clock() + 1)
    bench.clock.advance(1.5)
    bench.scheduler.tick()
    for hold, stage in ((running, "running"), (queued, "queued")):
        error = bench.ended(hold).error
        assert isinstance(error, DeadlineExceeded)
        assert error.facts == {"stage": stage}


async def test_a_deadline_that_has_passed_is_refused(bench):
    with pytest.raises(DeadlineExceeded, match="had passed when the request arrived"):
        bench.submit(deadline_s=bench.clock() - 1)


async def test_every_run_has_the_servers_own_deadline(make_bench):
    from interpd.graph.schema import Limits

    bench = make_bench(limits=Limits(run_s=3.0))
    hold = bench.submit("fake.sleep", deadline_s=bench.clock() + 1e9)
    bench.clock.advance(3.1)
    bench.scheduler.tick()
    assert isinstance(bench.ended(hold).error, DeadlineExceeded)


async def test_a_full_queue_refuses_with_a_retry_hint(make_bench):
    bench = make_bench(max_in_flight=1, max_queued=2)
    for owner in "abc":
        bench.submit("fake.sleep", owner=owner)
    with pytest.raises(Overloaded, match="the queue is full: 2 runs wait, limit 2") as caught:
        bench.submit(owner="d")
    assert caught.value.retry_after_s > 0
    assert bench.scheduler.statistics().n_refused == {"OVERLOADED": 1}


async def test_one_owner_cannot_fill_the_queue(make_bench):
    bench = make_bench(max_in_flight=1, max_queued_per_owner=2)
    for _ in range(3):
        bench.submit("fake.sleep", owner="greedy")
    with pytest.raises(Overloaded, match="owner 'greedy' has 2 runs waiting, limit 2"):
        bench.submit(owner="greedy")
    bench.submit(owner="modest")


async def test_a_bad_graph_is_refused_before_it_waits(bench):
    with pytest.raises(InvalidGraph):
        bench.submit("fake.ecko")


async def test_an_unknown_model_comes_with_the_nearest_name(bench):
    with pytest.raises(ModelNotFound, match="no model 'fack'; nearest is 'fake'"):
        bench.submit(model="fack")


async def test_a_failed_model_is_not_said_to_be_loaded(bench):
    status = ModelStatus("broken", FAILED)
    bench.workers.models = lambda known=bench.workers.models: (*known(), status)
    with pytest.raises(ModelNotFound, match=r"no model 'other'; loaded are fake$"):
        bench.submit(model="other")


async def test_results_are_kept_as_long_as_asked_or_not_promised(make_bench):
    bench = make_bench(max_keep_s=60.0)
    bench.submit(keep_s=60.0)
    with pytest.raises(LimitExceeded, match="keep_s 61 is more than the 60 seconds"):
        bench.submit(keep_s=61.0)


async def test_a_run_id_is_taken_once(bench):
    request = bench.request()
    bench.scheduler.submit(request)
    with pytest.raises(InvalidRequest, match="run id 'r1' is empty or taken"):
        bench.scheduler.submit(request)


async def test_a_lost_worker_fails_its_runs_and_spares_the_queued(make_bench):
    bench = make_bench(max_in_flight=2)
    runs = [bench.submit("fake.sleep") for _ in range(3)]
    link = bench.workers.links("fake")[0]
    bench.workers.lose(link)
    assert [bench.state(run) for run in runs] == ["ended", "ended", "queued"]
    assert isinstance(bench.ended(runs[0]).error, WorkerLost)
    bench.scheduler.tick()
    bench.workers.restart("fake")
    assert bench.state(runs[2]) == "running"


async def test_waiting_for_a_restart_is_said(bench):
    bench.workers.lose(bench.workers.links("fake")[0])
    hold = bench.submit()
    assert [e.reason async for e in _only_first(hold)] == ["model is restarting"]


async def test_the_culprit_is_told_apart_from_the_innocent(bench):
    culprit, innocent = bench.submit("fake.sleep"), bench.submit("fake.sleep")
    link = bench.workers.links("fake")[0]
    lost = Lost(WorkerLost("gone"), {culprit.run_id: OpFailed("'op x' took too long")})
    bench.scheduler.on_lost(link, lost)
    assert isinstance(bench.ended(culprit).error, OpFailed)
    assert isinstance(bench.ended(innocent).error, WorkerLost)


async def test_late_words_of_a_lost_worker_are_dropped(bench):
    hold = bench.submit()
    link = bench.workers.links("fake")[0]
    bench.scheduler.on_lost(link, Lost(WorkerLost("gone")))
    bench.scheduler.on_events(link, [Cancelled(hold.run_id, "running")])
    assert isinstance(bench.ended(hold), Failed)


async def test_replicas_share_the_runs_evenly(make_bench):
    bench = make_bench(n_replicas=2)
    for _ in range(6):
        bench.submit("fake.sleep")
    assert [len(link.engine._runs) for link in bench.workers.links("fake")] == [3, 3]


async def test_room_on_a_replica_is_filled_by_one_batch_per_turn(make_bench):
    bench = make_bench(max_in_flight=4)
    for _ in range(8):
        bench.submit()
    link = bench.workers.links("fake")[0]
    before = link.n_batches
    bench.finish()
    assert link.n_batches == before + 1


async def test_owners_take_turns_whatever_the_length_of_their_queues(make_bench):
    bench = make_bench(max_in_flight=1)
    for _ in range(5):
        bench.submit(owner="greedy")
    late = bench.submit(owner="modest")
    order = []
    for _ in range(40):
        bench.workers.step()
        order += [h for h in (late,) if bench.ended(h)]
    assert bench.scheduler.statistics().n_ended == {"done": 6}
    assert bench.ended(late).cost.queued_ms == 0.0


async def test_models_come_and_go(bench):
    status = await bench.scheduler.load(ModelSpec("fake:x", name="x"))
    assert (status.name, status.state) == ("x", "ready")
    hold = bench.submit(model="x")
    bench.finish()
    assert isinstance(bench.ended(hold), Done)
    await bench.scheduler.unload("x")
    with pytest.raises(ModelNotFound):
        bench.submit(model="x")


async def test_an_unload_fails_the_queued_and_after_the_grace_the_running(make_bench):
    bench = make_bench(max_in_flight=1)
    running, queued = bench.submit("fake.sleep"), bench.submit()
    unloading = asyncio.ensure_future(bench.scheduler.unload("fake"))
    await asyncio.sleep(0)
    assert bench.scheduler.models()[0].state == "unloading"
    assert isinstance(bench.ended(queued).error, ModelNotReady)
    with pytest.raises(ModelNotReady, match="model 'fake' is unloading"):
        bench.submit()
    await unloading
    assert isinstance(bench.ended(running).error, WorkerLost)
    assert bench.scheduler.models() == ()


async def test_a_drain_lets_runs_finish_and_refuses_new_ones(bench):
    hold = bench.submit("fake.sleep")
    draining = asyncio.ensure_future(bench.scheduler.drain(30.0))
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        bench.submit()
    bench.workers.step()
    bench.clock.advance(11.0)
    bench.finish()
    await draining
    assert isinstance(bench.ended(hold), Done)


async def test_after_the_grace_a_drain_ends_what_is_left(bench):
    hold = bench.submit("fake.sleep")
    await bench.scheduler.drain(0.01)
    assert isinstance(bench.ended(hold).error, Draining)


async def test_watchers_hear_each_change_of_the_models(bench):
    watch = bench.scheduler.watch_models()
    assert [status.name for status in await anext(watch)] == ["fake"]
    await bench.scheduler.load(ModelSpec("fake:x", name="x"))
    assert [status.name for status in await anext(watch)] == ["fake", "x"]
    await watch.aclose()


async def test_statistics_count_passes_once_however_many_runs_share_them(bench):
    for _ in range(4):
        bench.submit(owner="ann")
    before = bench.scheduler.statistics()
    assert before.owners == {"ann": 4}
    assert before.models[0].n_running == 4
    bench.finish()
    model = bench.scheduler.statistics().models[0]
    assert (model.n_passes, model.n_shared_passes, model.rows_per_pass) == (2, 2, 4.0)
    assert model.n_tokens == 20
