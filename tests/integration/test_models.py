import asyncio

import pytest

from interpd.errors import ArtifactNotFound, InvalidRequest, LimitExceeded, ModelNotFound, ModelNotReady
from interpd.graph.digest import blob_digest
from interpd.graph.ir import Prompt
from interpd.graph.run import Done
from interpd.graph.types import TensorData

pytestmark = pytest.mark.ray


async def test_two_models_serve_at_once(make_bench):
    bench = make_bench()
    await asyncio.gather(bench.load("a"), bench.load("b"))
    ends = await asyncio.gather(*(bench.run(model=name) for name in "abab"))
    assert [end.provenance.model for end in ends] == ["a", "b", "a", "b"]


async def test_models_are_loaded_and_unloaded_while_others_serve(bench):
    long = bench.submit("fake.sleep", params={"seconds": 3.0})
    await bench.load("second", "fake:slow")
    assert isinstance(await bench.run(model="second"), Done)
    pids = await bench.pids("second")
    await bench.scheduler.unload("second")
    with pytest.raises(ModelNotFound):
        bench.submit(model="second")
    assert isinstance(await bench.end(long), Done)
    assert [status.name for status in bench.scheduler.models()] == ["fake"]
    assert pids != await bench.pids("fake")


async def test_a_model_that_fails_to_load_says_why_and_others_serve(bench):
    with pytest.raises(InvalidRequest, match="source 'fake:broken' cannot be loaded"):
        await bench.load("bad", "fake:broken")
    status = bench.scheduler.models()[1]
    assert (status.name, status.state, status.detail) == ("bad", "failed", "source 'fake:broken' cannot be loaded")
    with pytest.raises(ModelNotReady, match="cannot be loaded"):
        bench.submit(model="bad")
    assert isinstance(await bench.run(), Done)
    assert (await bench.load("bad")).state == "ready"


async def test_a_name_is_taken_once(bench):
    with pytest.raises(InvalidRequest, match="model name 'fake' is taken"):
        await bench.load()


async def test_a_model_that_loads_too_slowly_has_failed(make_bench):
    bench = make_bench(load_timeout_s=0.01)
    with pytest.raises(ModelNotReady, match=r"was not loaded after 0\.01 s"):
        await bench.load(source="fake:slow")


async def test_gpus_that_are_not_there_are_refused_at_once(make_bench):
    bench = make_bench()
    with pytest.raises(LimitExceeded, match=r"asks for 64 GPUs, \d+ are free"):
        await bench.load(num_gpus=64.0)
    assert bench.scheduler.models()[0].state == "failed"


async def test_a_model_that_is_unloaded_while_it_loads_is_gone(make_bench):
    bench = make_bench()
    loading = asyncio.ensure_future(bench.load(source="fake:slow"))
    await asyncio.sleep(0.1)
    with pytest.raises(ModelNotReady, match="model 'fake' is loading"):
        bench.submit()
    await bench.scheduler.unload("fake")
    with pytest.raises(ModelNotReady, match="was unloaded while it was loading"):
        await loading
    assert bench.scheduler.models() == ()


async def test_the_worker_answers_calls_while_it_works(bench):
    hold = bench.submit("fake.sleep", params={"seconds": 1.0})
    tokens = await bench.scheduler.tokenize("fake", [Prompt(text="ab")])
    blob = TensorData("uint8", (3,), b"abc")
    await bench.scheduler.put_blob("fake", blob_digest(blob), blob)
    info = await bench.scheduler.put_artifact("fake", "mine", "fake", b"bytes")
    assert (tokens[0].strings, info.n_bytes) == (("a", "b"), 5)
    assert "mine" in bench.scheduler.manifest("fake").artifacts
    with pytest.raises(InvalidRequest, match="no artifact kind 'odd'"):
        await bench.scheduler.put_artifact("fake", "mine", "odd", b"bytes")
    assert isinstance(await bench.end(hold), Done)


async def test_an_artifact_is_given_back_and_taken_away_everywhere(make_bench):
    bench = make_bench()
    await bench.load(replicas=2)
    await bench.until(lambda status: status.n_ready == 2)
    for name in ("mine", "twin"):
        await bench.scheduler.put_artifact("fake", name, "fake", b"bytes")
    info, data = await bench.scheduler.get_artifact("fake", "mine")
    assert (info.name, data) == ("mine", b"bytes")
    await bench.scheduler.delete_artifact("fake", "mine")
    for link in bench.pool.links("fake"):
        assert (await link.describe()).artifacts.keys() == {"twin"}
    assert bench.scheduler.manifest("fake").artifacts.keys() == {"twin"}
    # equal bytes are one file, which the other name still needs
    assert (await bench.scheduler.get_artifact("fake", "twin"))[1] == b"bytes"
    with pytest.raises(ArtifactNotFound, match="model 'fake' has no artifact 'mine'; it has twin"):
        await bench.scheduler.get_artifact("fake", "mine")
    await bench.scheduler.delete_artifact("fake", "twin")
    with pytest.raises(ArtifactNotFound, match="it has none"):
        await bench.scheduler.delete_artifact("fake", "twin")


async def test_large_results_come_back_whole(bench):
    hold = bench.submit("fake.numbers")
    events = [event async for event in hold.events()]
    hold.release()
    numbers = events[-2].tensor.to_numpy()
    assert (numbers.shape, numbers[-1]) == ((1_000_000,), 999_999)


async def test_requests_sent_together_share_their_passes(bench):
    ends = await asyncio.gather(*(bench.run() for _ in range(20)))
    assert max(max(end.cost.shared_with) for end in ends) > 10
    assert bench.scheduler.statistics().models[0].rows_per_pass > 2
