"""The asynchronous client against the real service over sockets; behind it an engine without a model."""

import asyncio

import numpy as np
import pytest

import interpd_client as interpd
from interpd.testing.fake_engine import activation
from interpd.testing.fake_workers import fake_front
from interpd_client import aio


@pytest.fixture(scope="module")
def server(loopback):
    pytest.importorskip("grpc_health", reason="the service needs interpd[daemon]")
    with loopback(fake_front) as server:
        yield server


@pytest.fixture
async def client(server):
    async with aio.connect(server.address, timeout_s=30.0, progress=False) as client:
        yield client


@pytest.fixture
async def model(client):
    return await client.model("fake")


async def until(client, is_true):
    """Waits for the service's own counters."""
    for _ in range(1000):
        if is_true(await client.status()):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(await client.status())


def n_cancelled(status):
    return status.n_ended.get("cancelled", 0)


async def test_values_come_back_as_the_engine_made_them(model):
    async with model.trace("abc") as t:
        assert (await t.tokens)("bc") == (1, 2)
        t.save(h=t.layers[1].resid_post, numbers=t.ops.fake.numbers(n=1_000_000))
    np.testing.assert_array_equal(t.result["h"], activation([97, 98, 99], 1, 4))
    np.testing.assert_array_equal(t.result["numbers"], np.arange(1_000_000, dtype=np.float32))
    assert (await t.check(remote=True)).violations == ()


async def test_a_hundred_runs_at_once_get_their_own_answers(model):
    async def ask(number):
        async with model.trace("a") as t:
            t.save(x=t.ops.fake.echo(value=float(number)))
        return float(t.result["x"])

    assert await asyncio.gather(*map(ask, range(100))) == [float(number) for number in range(100)]


async def test_generated_tokens_stream(model):
    stream = model.stream("abc", max_new_tokens=5)
    text = "".join([token async for token in stream])
    assert text == stream.result.text == await model.generate_text("abc", max_new_tokens=5)


async def test_errors_come_back_as_the_same_class(client, model):
    with pytest.raises(interpd.ModelNotFound, match="no model 'nobody'"):
        await client.model("nobody")
    with pytest.raises(interpd.OpFailed, match="raised: on purpose"):
        async with model.trace("a") as t:
            t.save(x=t.ops.fake.fail(message="on purpose"))
    with pytest.raises(interpd.RunNotFound):
        await client.attach("nothing").result()
    with pytest.raises(interpd.DeadlineExceeded):
        async with model.trace("a", timeout_s=0.2) as t:
            t.save(x=t.ops.fake.sleep(seconds=20.0))


async def test_an_address_where_nobody_listens():
    async with aio.connect("127.0.0.1:1", timeout_s=5.0) as client:
        with pytest.raises(interpd.Unavailable, match="is a daemon listening at 127.0.0.1:1"):
            await client.models()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.models()


@pytest.mark.parametrize("keep_s", [0.0, 60.0])
async def test_a_cancelled_task_ends_its_run_on_the_service(client, model, keep_s):
    before = await client.status()
    t = model.trace("a", keep_s=keep_s)
    t.save(x=t.ops.fake.sleep(seconds=60.0))
    task = asyncio.create_task(t.run())
    await until(client, lambda status: status.n_accepted > before.n_accepted)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(client, lambda status: n_cancelled(status) > n_cancelled(before))


async def test_a_kept_run_goes_on_without_its_task(server, model):
    t = model.trace("a", keep_s=30.0)
    t.save(x=t.ops.fake.sleep(seconds=0.3))
    handle = await t.submit()
    task = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with aio.connect(server.address) as other:
        assert (await other.attach(handle.id).result())["x"] == np.float32(0.3)


async def test_a_client_that_closes_tells_its_runs(server):
    client = aio.connect(server.address, progress=False)
    t = (await client.model("fake")).trace("a")
    t.save(x=t.ops.fake.sleep(seconds=20.0))
    handle = await t.submit()
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(interpd.Cancelled, match="the call was cancelled"):
        await waiting


async def test_files_go_and_come_back(client, tmp_path):
    weights = bytes(range(256)) * (3 << 12) + b"end"  # four pieces
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights)
    assert (await client.upload_artifact(path, "there", "fake")).n_bytes == len(weights)
    assert await client.download_artifact("there") == weights
    await client.delete_artifact("there")
    assert len(await client.upload(np.zeros(100_000))) == 64
