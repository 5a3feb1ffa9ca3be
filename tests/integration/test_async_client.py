"""The asynchronous client against the real house: many runs on one event loop, tokens as they come, tasks that end."""

import asyncio

import interpd_client
import numpy as np
import pytest
from interpd_client import aio

pytestmark = pytest.mark.ray

NAMES = ("Elena Marsh", "Hugo Bishop", "Pavel Castell", "Nadia Flint")


@pytest.fixture
async def client(lab):
    async with aio.connect(lab.address, progress=False, timeout_s=120.0) as client:
        yield client


async def until(client, is_true):
    for _ in range(2000):
        (facts,) = [model for model in (await client.status()).models if model.name == "facts"]
        if is_true(facts):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(facts)


async def test_a_hundred_traces_at_once_give_what_each_gives_alone(client, lab):
    model = await client.model("facts")
    shift = np.random.default_rng(0).standard_normal((200, 128)).astype(np.float32)  # too large to stand in a graph

    async def ask(number):
        async with model.trace(f"{NAMES[number % 4]} was born in") as t:
            await t.tokens
            h = t.layers[2].resid_post[:, t.tokens[-1]]
            t.layers[3].resid_post[:, -1] += 0.01 * number * h
            t.save(best=t.logits[:, -1].argmax(-1), seen=t.torch.matmul(h, shift.T))
        return t.result

    together = await asyncio.gather(*map(ask, range(100)))
    assert max(max(result.cost.shared_with) for result in together) > 1
    for number in (0, 37, 99):
        alone = await ask(number)
        assert together[number]["best"] == alone["best"]
        np.testing.assert_allclose(together[number]["seen"], alone["seen"], rtol=1e-4, atol=1e-4)


async def test_generations_stream_side_by_side(client):
    model = await client.model("facts")

    async def told(name):
        stream = model.stream(f"{name} was born in", max_new_tokens=12)
        return "".join([token async for token in stream]), stream.result.text

    texts = await asyncio.gather(*map(told, NAMES))
    with_one_thread = [await model.generate_text(f"{name} was born in", max_new_tokens=12) for name in NAMES]
    assert [streamed for streamed, _ in texts] == [text for _, text in texts] == with_one_thread


@pytest.mark.parametrize("keep_s", [0.0, 60.0])
async def test_a_task_that_is_cancelled_takes_its_run_with_it(client, keep_s):
    model = await client.model("facts")
    before = (await client.status()).n_ended.get("cancelled", 0)
    t = model.trace(NAMES[0], keep_s=keep_s)
    t.save(value=t.op("bad.method_goes_on"))
    task = asyncio.create_task(t.run())
    await until(client, lambda facts: facts.n_running == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(client, lambda facts: facts.n_running == 0)
    assert (await client.status()).n_ended.get("cancelled", 0) == before + 1


async def test_a_failure_in_one_task_leaves_the_others_alone(client):
    model = await client.model("facts")

    async def ask(number):
        async with model.trace(NAMES[0]) as t:
            rows = t.layers[1].resid_post[0]
            t.save(row=rows[t.input_ids[0, 0] * (1000 if number == 2 else 0)])
        return t.result["row"].shape

    answers = await asyncio.gather(*map(ask, range(4)), return_exceptions=True)
    assert isinstance(answers.pop(2), interpd_client.CallerError)
    assert answers == [(128,)] * 3
