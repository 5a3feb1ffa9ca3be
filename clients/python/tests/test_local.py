"""Models in this very process: the client's transport without a daemon. Most tests have an engine without a model."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import interpd_client as interpd
from interpd_client import aio

torch = pytest.importorskip("torch", reason="models in this process need interpd[daemon]")

from jaxtyping import Float  # noqa: E402

from interpd.in_process import InProcess  # noqa: E402
from interpd.sdk import artifact, hookimpl, op, save_artifact  # noqa: E402
from interpd.testing.fake_engine import FakeEngine, activation  # noqa: E402
from interpd.testing.tiny_models import tiny_model  # noqa: E402
from interpd_client.aio.local_transport import LocalTransport as AsyncLocalTransport  # noqa: E402
from interpd_client.local_transport import LocalTransport  # noqa: E402


def crash():
    """What a bug in an engine does; the fake's own way would end this very process."""
    raise RuntimeError("a bug")


def make_engine(options, report):
    return FakeEngine(options.spec.name, crash=crash)


def fake_client():
    client = interpd.Client(LocalTransport(InProcess(make_engine=make_engine)), progress=False, timeout_s=60.0)
    client.load("fake:x", name="fake")
    return client


@pytest.fixture
def client():
    with fake_client() as client:
        yield client


@pytest.fixture
def model(client):
    return client.model("fake")


def until(is_true):
    deadline = time.monotonic() + 20.0
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def own_threads():
    """Gives the names of the threads of ours that this test has started."""
    before = set(threading.enumerate())
    return lambda: [one.name for one in set(threading.enumerate()) - before if one.name.startswith("interpd-")]


def test_values_come_back_as_the_engine_made_them(model):
    with model.trace("abc") as t:
        assert t.tokens("bc") == (1, 2)
        t.save(h=t.layers[1].resid_post, numbers=t.ops.fake.numbers(n=1_000_000))
    np.testing.assert_array_equal(t.result["h"], activation([97, 98, 99], 1, 4))
    np.testing.assert_array_equal(t.result["numbers"], np.arange(1_000_000, dtype=np.float32))
    assert t.check(remote=True).violations == ()


def test_generated_tokens_stream_and_leaving_them_ends_the_run(client, model):
    stream = model.stream("abc", max_new_tokens=5)
    assert "".join(stream) == stream.result.text == model.generate_text("abc", max_new_tokens=5)
    with pytest.raises(RuntimeError, match="closed before its end"):
        early = model.stream("abc", max_new_tokens=8_000)
        next(early)
        early.close()
        early.result  # noqa: B018
    until(lambda: client.status().n_ended.get("cancelled") == 1)


def test_what_a_client_asks_besides_works_too(client, tmp_path):
    assert client.load("fake:other", name="other").info.n_layers == 2
    assert [status.name for status in client.models()] == ["fake", "other"]
    client.unload("other")
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"1234")
    assert client.upload_artifact(path, "mine", "fake").n_bytes == 4
    assert client.download_artifact("mine") == b"1234"
    client.delete_artifact("mine")
    assert client.plugins()["fake"][0].name == "fake"
    assert len(client.upload(np.zeros(100_000))) == 64
    assert client.status().models[0].name == "fake"
    assert repr(client) == "<client of the models in this process>"


def test_errors_have_the_classes_and_words_of_the_service(client, model):
    with pytest.raises(interpd.ModelNotFound, match="no model 'fakes'; nearest is 'fake'"):
        client.model("fakes")
    with pytest.raises(interpd.OpFailed, match="raised: on purpose"), model.trace("a") as t:
        t.save(x=t.ops.fake.fail(message="on purpose"))
    with pytest.raises(interpd.DeadlineExceeded), model.trace("a", timeout_s=0.1) as t:
        t.save(x=t.ops.fake.sleep(seconds=20.0))
    with pytest.raises(interpd.RunNotFound):
        client.attach("nothing").result()
    with pytest.raises(interpd.InvalidRequest, match="num_gpus is for models in processes of their own"):
        client.load("fake:y", name="y", num_gpus=1)


def test_a_kept_run_is_found_again_and_can_be_ended(client, model):
    t = model.trace("a", keep_s=30.0)
    t.save(x=t.ops.fake.sleep(seconds=60.0))
    handle = t.submit()
    client.attach(handle.id).cancel()
    with pytest.raises(interpd.Cancelled):
        handle.result()


def test_ctrl_c_cancels_the_run(client, model, sigint):
    main = threading.main_thread().ident

    def interrupt():
        until(lambda: client.status().models[0].n_running == 1)
        signal.pthread_kill(main, sigint)

    helper = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), model.trace("a", keep_s=60.0) as t:
        t.save(x=t.ops.fake.sleep(seconds=60.0))
        helper.start()
    helper.join()
    until(lambda: client.status().n_ended.get("cancelled") == 1)


@pytest.mark.slow
def test_an_engine_that_breaks_is_made_again(client, model):
    with pytest.raises(interpd.InternalError, match="RuntimeError: a bug"), model.trace("a") as t:
        t.save(x=t.op("fake.crash"))
    # the loss is noticed a moment after the answer
    until(lambda: client.models()[0].n_restarts == 1 and client.models()[0].state == "ready")
    with model.trace("a") as t:
        t.save(x=t.ops.fake.echo(value=2.0))
    assert t.result["x"] == 2.0


def test_many_threads_share_one_client(client, model):
    results = {}

    def work(number):
        with model.trace("a") as t:
            t.save(x=t.ops.fake.echo(value=float(number)))
        results[number] = float(t.result["x"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: float(number) for number in range(16)}


async def test_it_works_where_an_event_loop_runs_as_in_notebooks(client, model):
    with model.trace("a") as t:
        t.save(x=t.ops.fake.echo(value=1.0))
    assert t.result["x"] == 1.0
    assert len(list(model.stream("abc", max_new_tokens=3))) == 3


def test_closing_ends_what_waits_and_leaves_nothing(own_threads):
    client = fake_client()
    folder = client._connection.transport._daemon._folder
    t = client.model("fake").trace("a")
    t.save(x=t.ops.fake.sleep(seconds=60.0))
    handle, ends = t.submit(), []

    def wait():
        with pytest.raises(interpd.Cancelled, match="the call was cancelled"):
            handle.result()
        ends.append("cancelled")

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: client.status().models[0].n_running == 1)
    client.close()
    client.close()
    waiting.join()
    assert ends == ["cancelled"]
    assert own_threads() == []
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.models()


def test_a_client_that_nobody_holds_ends_itself(own_threads):
    fake_client()
    gc.collect()
    until(lambda: own_threads() == [])


def test_the_child_of_a_fork_is_told_and_takes_nothing_away(client):
    folder = client._connection.transport._daemon._folder
    # the child looks at nothing but a number, because it has none of the threads
    daemon = client._connection.transport._daemon
    real, daemon._pid = daemon._pid, -1
    with pytest.raises(RuntimeError, match="in the child of a fork: call local"):
        client.models()
    daemon.close()
    daemon._pid = real
    assert folder.exists()
    assert client.models()[0].state == "ready"
    assert real == os.getpid()


async def test_the_asynchronous_twin_has_it_too(own_threads):
    transport = AsyncLocalTransport(InProcess(make_engine=make_engine))
    async with aio.Client(transport, progress=False) as client:
        model = await client.load("fake:x", name="fake")

        async def ask(number):
            async with model.trace("a") as t:
                t.save(x=t.ops.fake.echo(value=float(number)))
            return float(t.result["x"])

        assert await asyncio.gather(*map(ask, range(20))) == [float(number) for number in range(20)]
        t = model.trace("a")
        t.save(x=t.ops.fake.sleep(seconds=60.0))
        task = asyncio.create_task(t.run())
        while (await client.status()).models[0].n_running == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.status()).n_ended["cancelled"] == 1
        assert [token async for token in model.stream("abc", max_new_tokens=3)]
    assert own_threads() == []


def test_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "interpd_client.local_transport")
    monkeypatch.setitem(sys.modules, "interpd.in_process", None)
    with pytest.raises(ImportError, match=r"pip install interpd\[daemon\] \(there is no 'interpd\.in_process'\)"):
        interpd.local("facts")


@pytest.mark.parametrize(
    ("models", "options", "error", "message"),
    [
        ((), {}, TypeError, "wants a model at least"),
        ((3,), {}, TypeError, r"local\(\) takes folders, hub ids, .* got 3"),
        (("facts", "facts=b"), {"name": "c"}, TypeError, "name='c' names one model, and 2 were given"),
        (("facts",), {"dtype": "int8"}, interpd.InvalidRequest, "dtype 'int8' is none of"),
        (
            ("nothing_of_the_kind",),
            {},
            interpd.InvalidRequest,
            "no bundled name here .*facts.* needs a pinned revision",
        ),
    ],
)
def test_models_that_cannot_be_had_leave_nothing(models, options, error, message, own_threads):
    with pytest.raises(error, match=message):
        interpd.local(*models, **options)
    assert own_threads() == []


@artifact("weight")
@dataclass(frozen=True)
class Weight:
    """A number per channel."""

    value: Float[torch.Tensor, " d_model"]


@op("demo.scaled")
def scaled(x: Float[torch.Tensor, "batch pos d_model"], *, weight: Weight) -> Float[torch.Tensor, "batch pos d_model"]:
    """The input times a weight."""
    return x * weight.value


def test_a_module_that_is_not_installed_can_be_a_plugin(tmp_path):
    module = ModuleType("demo")
    module.interpd_register_ops = hookimpl(lambda: [scaled])
    module.interpd_register_artifacts = hookimpl(lambda: [Weight])
    tiny = tiny_model("gpt2")
    path = Path(tmp_path, "weight.safetensors")
    save_artifact(Weight(torch.full((24,), 2.0)), path)
    with interpd.local((tiny.model, tiny.tokenizer), plugins={"demo": module}, progress=False) as client:
        client.upload_artifact(path, "two", "weight")
        with client.model("gpt2").trace("The cat sat") as t:
            h = t.layers[1].resid_post
            t.save(h=h, twice=t.ops.demo.scaled(h, weight="two"))
    np.testing.assert_array_equal(t.result["twice"], 2.0 * t.result["h"])


def test_a_loaded_model_is_taken_and_given_back_as_it_was(own_threads):
    tiny = tiny_model("gpt2")
    ids = torch.tensor([tiny.tokenizer("The cat sat").input_ids])
    with torch.no_grad():
        before = tiny.model(ids).logits
    with interpd.local((tiny.model, tiny.tokenizer), progress=False) as client:
        model = client.model("gpt2")
        with model.trace("The cat sat") as t:
            t.layers[1].attn.pattern = t.layers[1].attn.pattern * 1.0
            t.save(logits=t.logits)
    np.testing.assert_allclose(t.result["logits"], before.numpy(), atol=1e-5)
    with torch.no_grad():
        assert torch.equal(tiny.model(ids).logits, before)
    assert own_threads() == []


def test_a_model_without_a_tokenizer_takes_ids_and_serves_one_client_at_a_time():
    tiny = tiny_model("llama")
    with interpd.local(tiny.model, name="mine", progress=False) as client:
        model = client.model("mine")
        with pytest.raises(interpd.PreconditionFailed, match=r"served already.* close\(\) that one first"):
            interpd.local(tiny.model, name="again", progress=False)
        with model.trace([1, 2, 3]) as t:
            t.save(logits=t.logits, pattern=t.layers[0].attn.pattern)
        assert t.result["logits"].shape[:2] == (1, 3)
        with pytest.raises(interpd.InvalidRequest, match="given without a tokenizer: give the prompt as token_ids"):
            model.tokenize("text")
    with interpd.local(tiny.model, name="again", progress=False) as client:
        assert client.model("again").info.n_layers == tiny.model.config.num_hidden_layers


def test_closing_frees_the_model():
    tiny = tiny_model("gpt2")
    client = interpd.local((tiny.model, tiny.tokenizer), progress=False)
    assert client.model("gpt2").generate_text("The cat", max_new_tokens=2)
    held = weakref.ref(tiny.model)
    del tiny
    client.close()
    gc.collect()
    assert held() is None
