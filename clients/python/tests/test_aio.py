"""The client for programs with an event loop, against a service without a server."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

import interpd_client as interpd
from interpd.errors import DeadlineExceeded, Overloaded, Unavailable, WorkerLost
from interpd.graph.run import Cost, Done, Progress, Provenance, Queued, Result, Started
from interpd.graph.types import TensorData
from interpd_client import aio
from interpd_client.aio.testing import FakeTransport
from interpd_client.testing import FakeStream, fake_manifest

DONE = Done("r", Provenance("0" * 64, "fake", "fake", (), "fake", "float32", "cpu"), Cost(1, 1, 1, 4))
NOTHING = "nothing, for ever"
ONE = Result("r", "x", TensorData.from_numpy(np.float32(1.0)))


@pytest.fixture
def transport():
    return FakeTransport(fake_manifest(n_layers=3))


@pytest.fixture
async def client(transport):
    async with aio.Client(transport, progress=False) as client:
        yield client


@pytest.fixture
async def model(client):
    return await client.model("fake")


async def test_a_block_sends_its_graph_at_its_end(model, transport):
    async with model.trace("two words") as t:
        t.layers[0].mlp.out = t.layers[0].mlp.out * 2.0
        t.save(h=t.layers[1].resid_post, top=t.logits[:, -1].topk(3))
        assert transport.fake.requests == []
    assert [node.op for node in transport.fake.requests[0].graph.nodes][:2] == ["site.read", "torch.mul"]
    assert t.result["h"].shape == (1, 2, 8)
    assert t.result["top"].values.shape == (1, 3)


async def test_an_exception_inside_the_block_sends_nothing(model, transport):
    with pytest.raises(ZeroDivisionError):
        async with model.trace("a") as t:
            t.save(h=t.embed)
            raise ZeroDivisionError
    assert transport.fake.requests == []
    with pytest.raises(RuntimeError, match="sent when the `async with` block ends"):
        t.result  # noqa: B018


async def test_a_graph_that_breaks_a_rule_is_refused_at_the_users_line(model, transport):
    with pytest.raises(interpd.InvalidGraph, match=r"test_aio\.py:\d+: t\.save\(x=t\.embed\.topk\(99\)\)"):
        async with model.trace("two words") as t:
            t.save(x=t.embed.topk(99))
    assert transport.fake.requests == []


async def test_tokens_of_a_prompt_are_awaited_once(model, transport):
    async with model.trace("one two three") as t:
        with pytest.raises(RuntimeError, match="write `await t.tokens` above it"):
            t.tokens("two")
        tokens = await t.tokens
        assert tokens("two") == (1,)
        assert t.tokens.strings == ("one", " two", " three")
        await t.tokens
        assert t.embed.size(1) == 3
        t.save(h=t.embed[:, t.tokens("two")])
    assert transport.fake.n_tokenized == 1


async def test_each_of_several_prompts_has_tokens_of_its_own(model):
    async with model.trace() as t:
        a, b = t.prompt("one two"), t.prompt("one")
        assert (await b.tokens).strings == ("one",)
        with pytest.raises(RuntimeError, match="await t.tokens"):
            a.tokens("two")
        t.save(a=a.embed, b=b.embed)
    assert t.result["a"].shape == (1, 2, 8)


async def test_checks_and_explanations(model):
    t = model.trace("one two")
    t.save(h=t.embed)
    assert (await t.check()).violations == (await t.check(remote=True)).violations == ()
    assert "site.read(site='embed')" in t.explain()


async def test_generations_stream_their_tokens(model):
    stream = model.stream("a", max_new_tokens=3)
    with pytest.raises(RuntimeError, match="tokens are still to come"):
        stream.result  # noqa: B018
    assert [token.step async for token in stream] == [0, 1, 2]
    assert stream.result.text == await model.generate_text("a", max_new_tokens=3) == " word" * 3


async def test_a_generation_has_blocks_of_steps_and_calls_back(model, transport):
    seen = []
    async with model.generate("a", max_new_tokens=2, on_token=seen.append) as g:
        with g.at(0):
            g.embed = g.embed * 0.0
        g.save(last=g.logits[:, -1])
    assert [event.step for event in seen] == [0, 1]
    assert transport.fake.requests[0].graph.nodes[0].steps is not None


async def test_a_stream_that_was_closed_has_no_result(model):
    stream = model.stream("a", max_new_tokens=3)
    assert await anext(stream) == " word"
    await stream.close()
    assert [token async for token in stream] == []
    with pytest.raises(RuntimeError, match="closed before its end"):
        stream.result  # noqa: B018


async def test_a_hundred_traces_share_one_loop_and_one_upload(client, model, transport):
    large = np.ones((200, 200), dtype=np.float32)
    sent = []
    put_blob = transport.fake.put_blob
    transport.fake.put_blob = lambda *args: (sent.append(args[1]), put_blob(*args))

    async def ask(number):
        async with model.trace("a b") as t:
            t.save(x=t.embed * float(number), y=t.torch.matmul(large, large))
        return t.result.run_id

    run_ids = await asyncio.gather(*(ask(number) for number in range(100)))
    assert len(set(run_ids)) == len(transport.fake.requests) == 100
    assert len(sent) == 1


async def test_what_a_client_asks_besides(client, transport, tmp_path):
    assert [status.name for status in await client.models()] == ["fake"]
    assert (await client.load("org/other")).name == "other"
    await client.unload("other")
    path = tmp_path / "sae.safetensors"
    path.write_bytes(b"12345")
    assert (await client.upload_artifact(path, "mine", "sae")).n_bytes == 5
    assert await client.download_artifact("mine", tmp_path / "copy") == (tmp_path / "copy").read_bytes() == b"12345"
    assert [artifact.name for artifact in await client.artifacts()] == ["mine"]
    await client.delete_artifact("mine")
    model = await client.model("fake")
    assert (await model.upload_artifact(b"123", "yours", "sae")).n_bytes == 3
    assert [artifact.name for artifact in await model.artifacts()] == ["yours"]
    assert await client.plugins() == {"fake": ()}
    assert len(await client.upload(np.zeros(3))) == 64
    assert (await client.status()).n_accepted == 0
    with pytest.raises(interpd.ModelNotFound, match="no model 'nobody'"):
        await client.model("nobody")


async def test_requests_made_as_data_run(client, model, transport):
    t = model.trace("a b")
    t.save(x=t.embed)
    assert (await client.validate(t.request)).violations == ()
    assert (await client.run(t.request))["x"].shape == (1, 2, 8)


class Scripted:
    """Gives one prepared list of events, or error, per call of ``run`` or ``attach``; an event to wait for waits."""

    def __init__(self, *scripts):
        self.transport = FakeTransport(fake_manifest())
        self.fake = self.transport.fake
        self.scripts = list(scripts)
        self.attached = []
        self.waits = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self.transport, name)

    async def run(self, request):
        self.fake.requests.append(request)
        return ScriptedStream(self.scripts.pop(0), self.waits)

    async def attach(self, run_id, start, timeout_s):
        self.attached.append(start)
        return ScriptedStream(self.scripts.pop(0), self.waits, start)


class ScriptedStream:
    def __init__(self, events, waits, start=0):
        self.stream = FakeStream([event for event in events if event is not NOTHING], start)
        self.waits = waits if NOTHING in events else None

    @property
    def next_number(self):
        return self.stream.next_number

    async def __aiter__(self):
        for event in self.stream:
            yield event
        if self.waits is not None:
            self.waits.set()
            await asyncio.Event().wait()

    def close(self):
        self.stream.close()


async def traced(transport, **options):
    client = aio.Client(transport, progress=False)
    t = (await client.model("fake")).trace("a b", **options)
    t.save(x=t.embed)
    return t


async def test_a_busy_service_is_asked_again():
    transport = Scripted([Overloaded("full", retry_after_s=0.0)], [WorkerLost("died", retry_after_s=0.0)], [ONE, DONE])
    assert (await (await traced(transport)).run())["x"] == 1.0
    assert len({request.run_id for request in transport.fake.requests}) == 3


async def test_a_kept_run_is_attached_again():
    begun = [Queued("r", 0, "x"), Started("r", ())]
    transport = Scripted([*begun, Unavailable("reset", retry_after_s=0.0)], [*begun, ONE, DONE])
    assert (await (await traced(transport, keep_s=60.0)).run())["x"] == 1.0
    assert transport.attached == [2]


async def test_a_deadline_says_what_the_run_was_doing():
    with pytest.raises(DeadlineExceeded, match="while running; give the run more timeout_s"):
        await (await traced(Scripted([Started("r", ()), DeadlineExceeded("late")]))).run()


async def test_a_cancelled_task_cancels_its_run():
    transport = Scripted([Started("r", ()), NOTHING])
    t = await traced(transport)
    task = asyncio.create_task(t.run())
    await transport.waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.fake.cancelled == [transport.fake.requests[0].run_id]


async def test_a_run_that_shall_go_on_is_not_cancelled_with_its_task():
    transport = Scripted([Started("r", ()), NOTHING])
    handle = await (await traced(transport, keep_s=60.0)).submit()
    task = asyncio.create_task(handle.result())
    await transport.waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.fake.cancelled == []


async def test_a_submitted_run_is_watched_and_left():
    transport = Scripted([Started("r", ()), Progress("r", 1.0, 2.0), ONE, DONE])
    t = await traced(transport)
    handle = await t.submit()
    with pytest.raises(RuntimeError, match="waits for a run that was submitted"):
        t.result  # noqa: B018
    async with aclosing(handle.events()) as events:
        seen = [type(event).__name__ async for event in events]
    assert seen == ["Started", "Progress", "Result", "Done"]


async def test_an_error_comes_again_with_each_look_at_the_result():
    t = await traced(Scripted([interpd.OpFailed("nodes[0]: division", node="0")]))
    for _ in range(2):
        with pytest.raises(interpd.OpFailed, match="division"):
            await t.run()
    with pytest.raises(interpd.OpFailed, match="division"):
        t.result  # noqa: B018


async def test_plugin_parts_are_for_the_blocking_client(model, monkeypatch):
    monkeypatch.setattr("interpd.plugin.parts.names", lambda group: ("lens",))
    with pytest.raises(interpd.UnknownName, match="works with models of the blocking client"):
        model.lens  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        model.nothing  # noqa: B018
