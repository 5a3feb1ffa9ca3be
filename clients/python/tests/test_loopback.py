"""The client against the real service over sockets; behind it a real scheduler and an engine without a model."""

import signal
import socket
import threading
import time
from contextlib import nullcontext, suppress

import grpc
import numpy as np
import pytest

import interpd_client as interpd
from interpd.testing.fake_engine import activation
from interpd.testing.fake_workers import fake_front
from interpd_client.grpc_transport import _Call


@pytest.fixture(scope="module")
def server(loopback):
    pytest.importorskip("grpc_health", reason="the service needs interpd[daemon]")
    with loopback(fake_front) as server:
        yield server


@pytest.fixture
def client(server):
    with interpd.connect(server.address, timeout_s=30.0, progress=False) as client:
        yield client


@pytest.fixture
def model(client):
    return client.model("fake")


def test_values_come_back_as_the_engine_made_them(model):
    with model.trace("abc") as t:
        t.save(both=[layer.resid_post for layer in t.layers], ids=t.input_ids)
    np.testing.assert_array_equal(t.result["both"][1], activation([97, 98, 99], 1, 4))
    assert t.result["ids"].tolist() == [[97, 98, 99]]
    assert t.result.tokens[0].strings == ("a", "b", "c")
    assert t.result.cost.bytes_returned == 2 * 48 + 24
    assert t.result.provenance.model == "fake"


def test_a_stream_is_over_for_grpc_too_when_it_is_closed():
    told = []

    class Late:
        """A call of gRPC, whose thread hears of the end after a while."""

        def add_callback(self, callback):
            self.callback = callback
            return True

        def cancel(self):
            threading.Timer(0.05, lambda: (told.append("over"), self.callback())).start()

    _Call(Late(), nullcontext).close()
    assert told == ["over"]


def test_large_results_arrive_whole(model):
    with model.trace("a") as t:
        t.save(numbers=t.ops.fake.numbers(n=1_000_000))
    np.testing.assert_array_equal(t.result["numbers"], np.arange(1_000_000, dtype=np.float32))


def test_positions_by_text_ask_the_tokenizer(model):
    t = model.trace("one two")
    assert t.tokens("two") == (4, 5, 6)


def test_the_service_and_the_client_check_alike(model):
    t = model.trace([97, 98, 99])
    t.save(x=t.site("layers.0.resid_post"), y=t.op("fake.echo", value=1.0))
    local, remote = t.check(), t.check(remote=True)
    assert local.violations == remote.violations == ()
    assert local.types == remote.types
    assert local.estimate.n_tokens == remote.estimate.n_tokens == 3


def test_the_service_counts_tokens_that_the_client_does_not_know(model):
    t = model.trace("abc")
    t.save(x=t.op("site.read", site="layers.0.resid_post", positions=(7,)))
    assert t.check().violations == ()
    (violation,) = t.check(remote=True).violations
    assert violation.code == "POSITION_OUT_OF_RANGE"
    assert "test_loopback.py:" in violation.place


def test_generated_tokens_stream(model):
    stream = model.stream("abc", max_new_tokens=5)
    assert "".join(stream) == stream.result.text == model.generate_text("abc", max_new_tokens=5)


def test_errors_come_back_as_the_same_class(client, model):
    with pytest.raises(interpd.ModelNotFound, match="no model 'nobody'"):
        client.model("nobody")
    with pytest.raises(interpd.OpFailed, match="raised: on purpose"), model.trace("a") as t:
        t.save(x=t.ops.fake.fail(message="on purpose"))
    with pytest.raises(interpd.RunNotFound):
        client.attach("nothing").result()


def test_a_deadline_reaches_the_engine(model):
    begin = time.monotonic()
    with pytest.raises(interpd.DeadlineExceeded), model.trace("a", timeout_s=0.3) as t:
        t.save(x=t.ops.fake.sleep(seconds=20.0))
    assert time.monotonic() - begin < 5.0


def test_a_kept_run_is_found_by_another_client(server, model):
    with model.trace("a", keep_s=30.0) as t:
        t.save(x=t.ops.fake.sleep(seconds=0.3))
        handle = t.submit()
    with interpd.connect(server.address) as other:
        assert other.attach(handle.id).result()["x"] == np.float32(0.3)
    assert handle.result()["x"] == np.float32(0.3)


def test_cancelling_ends_a_run_for_whoever_follows_it(model):
    t = model.trace("a", keep_s=30.0)
    t.save(x=t.ops.fake.sleep(seconds=20.0))
    handle = t.submit()
    handle.cancel()
    with pytest.raises(interpd.Cancelled):
        handle.result()


class Proxy:
    """Passes bytes on to the server until it is told to drop every connection."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.target = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.pairs = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target)
                self.pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    def copy(self, source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)

    def drop(self):
        for one in [end for pair in self.pairs for end in pair]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.pairs.clear()

    def close(self):
        self.drop()
        self.listener.close()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.address)
    yield proxy
    proxy.close()


@pytest.mark.slow
def test_a_kept_run_survives_its_connection(proxy):
    with interpd.connect(proxy.address, timeout_s=30.0, progress=False) as client:
        with client.model("fake").trace("a", keep_s=30.0) as t:
            threading.Timer(0.3, proxy.drop).start()
            t.save(x=t.ops.fake.sleep(seconds=0.8), y=t.ops.fake.echo(value=2.0))
        assert t.result["y"] == 2.0


def test_a_run_that_is_not_kept_is_lost_with_its_connection(proxy):
    with interpd.connect(proxy.address, timeout_s=30.0, progress=False) as client:
        with pytest.raises(interpd.Unavailable), client.model("fake").trace("a") as t:
            threading.Timer(0.3, proxy.drop).start()
            t.save(x=t.ops.fake.sleep(seconds=5.0))


def test_many_threads_share_one_client(client):
    results = {}

    def work(number):
        with client.model("fake").trace("a") as t:
            t.save(x=t.ops.fake.echo(value=float(number)))
        results[number] = float(t.result["x"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: float(number) for number in range(16)}


def test_models_plugins_artifacts_and_counters(client, tmp_path):
    assert client.load("fake:other", name="other").info.n_layers == 2
    assert [status.name for status in client.models()] == ["fake", "other"]
    client.unload("other")
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"1234")
    assert client.upload_artifact(path, "mine", "fake").n_bytes == 4
    assert isinstance(client.artifacts(), tuple)
    assert client.plugins()["fake"][0].name == "fake"
    assert client.status().n_accepted > 0
    assert len(client.upload(np.zeros(100_000))) == 64


def test_an_artifact_comes_back_as_it_was_sent_and_goes(client, tmp_path):
    weights = bytes(range(256)) * (3 << 12) + b"end"  # four pieces
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights)
    client.upload_artifact(path, "there", "fake")
    assert client.download_artifact("there") == weights
    assert client.download_artifact("there", tmp_path / "back.safetensors", model="fake") == weights
    assert (tmp_path / "back.safetensors").read_bytes() == weights
    assert sorted(file.name for file in tmp_path.iterdir()) == ["back.safetensors", "weights.safetensors"]
    client.delete_artifact("there")
    assert "there" not in [artifact.name for artifact in client.artifacts()]
    for call in (client.download_artifact, client.delete_artifact):
        with pytest.raises(interpd.ArtifactNotFound, match="no artifact 'there'"):
            call("there")


def wait_until(is_true):
    deadline = time.monotonic() + 10.0
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def n_cancelled(client):
    return client.status().n_ended.get("cancelled", 0)


def test_ctrl_c_cancels_the_run_on_the_service(client, model, sigint):
    before = n_cancelled(client)
    main = threading.main_thread().ident
    with pytest.raises(KeyboardInterrupt), model.trace("a", keep_s=60.0) as t:
        t.save(x=t.ops.fake.sleep(seconds=20.0))
        threading.Timer(0.3, lambda: signal.pthread_kill(main, sigint)).start()
    wait_until(lambda: n_cancelled(client) == before + 1)


def test_leaving_the_events_of_a_run_ends_it(client, model):
    before = n_cancelled(client)
    t = model.trace("a")
    t.save(x=t.ops.fake.sleep(seconds=20.0))
    for _ in t.submit().events():
        break
    wait_until(lambda: n_cancelled(client) == before + 1)


def test_an_address_where_nobody_listens():
    with interpd.connect("127.0.0.1:1", timeout_s=5.0) as client, pytest.raises(interpd.Unavailable) as caught:
        client.models()
    assert not isinstance(caught.value, grpc.RpcError)
