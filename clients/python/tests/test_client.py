"""What a client asks besides running traces."""

import numpy as np
import pytest

import interpd_client as interpd
from interpd.errors import Overloaded
from interpd.graph.digest import blob_digest
from interpd.graph.ir import Graph, Node, Ref
from interpd.graph.run import RunRequest
from interpd.graph.types import TensorData
from interpd.scheduler.interface import ModelStatus
from interpd_client.testing import FakeTransport, fake_manifest


def test_models_are_listed_loaded_and_unloaded(client):
    model = client.load("org/other", dtype="float32")
    assert (model.name, [status.name for status in client.models()]) == ("other", ["fake", "other"])
    client.unload("other")
    with pytest.raises(interpd.ModelNotFound, match="no model 'other'"):
        client.model("other")


def test_a_model_describes_itself(model):
    assert repr(model) == "<model fake: FakeForCausalLM, 3 layers, d_model 8, d_vocab 32, float32 on cpu>"
    assert model.sites[:2] == ("embed", "layers.0.resid_pre")
    assert model.info.n_layers == 3
    assert model.tokenize("one two").strings == ("one", " two")


def test_an_array_is_uploaded_once(client, transport):
    array = np.ones(3)
    digest = client.upload(array)
    transport.blobs.clear()
    assert client.upload(array) == digest == blob_digest(TensorData.from_numpy(array))
    assert transport.blobs == {}


def test_artifacts_go_to_the_only_model_or_to_the_one_named(client, tmp_path):
    path = tmp_path / "sae.safetensors"
    path.write_bytes(b"12345")
    assert client.upload_artifact(path, "mine", "sae").n_bytes == 5
    client.load("other")
    with pytest.raises(interpd.InvalidRequest, match="model='fake' or 'other'"):
        client.upload_artifact(path, "mine", "sae")
    assert client.upload_artifact(path, "mine", "sae", model="other").name == "mine"
    assert [artifact.name for artifact in client.artifacts("other")] == ["mine"]
    assert client.model("other").manifest.artifacts["mine"].kind == "sae"


def test_a_model_takes_artifacts_as_files_and_as_their_content(client, model, tmp_path):
    path = tmp_path / "sae.safetensors"
    path.write_bytes(b"12345")
    assert model.upload_artifact(path, "mine", "sae").n_bytes == 5
    assert model.upload_artifact(b"123", "yours", "sae").n_bytes == 3
    assert [artifact.name for artifact in model.artifacts()] == ["mine", "yours"]
    assert client.artifacts() == model.artifacts()


def test_a_model_that_failed_is_not_meant(client, transport, monkeypatch):
    failed = ModelStatus("gone", "failed", "no such folder")
    monkeypatch.setattr(transport, "models", lambda timeout_s: (failed, *FakeTransport.models(transport, timeout_s)))
    assert client.artifacts() == ()
    monkeypatch.setattr(transport, "models", lambda timeout_s: (failed,))
    with pytest.raises(interpd.InvalidRequest, match="no model is served"):
        client.artifacts()


def test_adapters_are_loaded_named_by_traces_and_taken_away(client, transport, model):
    assert client.load_adapter("org/french", revision="abc").name == "french"
    client.load_adapter("/there/german", "de")
    assert [adapter.name for adapter in client.adapters()] == ["french", "de"]
    # the model was fetched before: the trace asks again
    with model.trace("one two", adapter="de") as t:
        t.save(h=t.layers[0].resid_post)
    assert transport.requests[-1].adapter == t.result.provenance.adapter == "de"
    client.unload_adapter("de")
    with pytest.raises(interpd.AdapterNotFound, match="no adapter 'de'; it has 'french'"):
        client.model("fake").generate_text("one", max_new_tokens=1, adapter="de")


def test_plugins_and_status(client, model):
    assert client.plugins() == {"fake": ()}
    model.generate_text("a", max_new_tokens=1)
    assert client.status().n_accepted == 1


def test_questions_are_asked_again_when_the_service_is_busy():
    class Busy(FakeTransport):
        n_refusals = 2

        def models(self, timeout_s):
            self.n_refusals -= 1
            if self.n_refusals >= 0:
                raise Overloaded("full", retry_after_s=0.0)
            return super().models(timeout_s)

    assert len(interpd.Client(Busy(fake_manifest())).models()) == 1


def test_graphs_from_elsewhere_run_as_data(client, transport):
    graph = Graph((Node("site.read", (), {"site": "embed"}),), {"x.0": Ref(0)})
    request = RunRequest("mine", "fake", (interpd.Prompt(text="a b"),), graph)
    assert client.validate(request).violations == ()
    assert client.run(request)["x.0"].shape == (1, 2, 8)
    assert transport.requests == [request]


def test_leaving_the_block_closes_the_connection(transport):
    with interpd.Client(transport):
        pass
    assert transport.is_closed


def test_connecting_sends_nothing():
    client = interpd.connect("localhost:1", timeout_s=5.0)
    assert repr(client) == "<client of the daemon at localhost:1>"
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.models()


@pytest.mark.parametrize("address", ["localhost", "localhost:", "localhost:99999", "http://localhost:7700"])
def test_an_address_is_a_host_and_a_port(address):
    with pytest.raises(ValueError, match=f"an address is host:port, as in 'localhost:7700', got '{address}'"):
        interpd.connect(address)


def test_a_service_that_is_not_there_says_how_to_start_one():
    with interpd.connect("localhost:1", timeout_s=5.0) as client:
        advice = r"^the service cannot be reached; is a daemon listening at localhost:1\? `interpd serve` starts"
        with pytest.raises(interpd.Unavailable, match=advice) as caught:
            client.models()
    assert "localhost:1" in caught.value.facts["grpc"] or "127.0.0.1:1" in caught.value.facts["grpc"]
