"""Adapters as a user meets them: a sharded model with some, loaded and unloaded while it serves; a worker that dies."""

import shutil

import interpd_client
import pytest
import torch
from safetensors.torch import load_file, save_file

from interpd.errors import AdapterNotFound, FeatureUnsupported, InvalidRequest
from interpd.specs import AdapterSpec, ModelSpec
from interpd.testing.tiny_adapters import adapted_by_peft, save_adapter
from interpd.testing.tiny_models import tiny_gpt2, tiny_llama

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A sharded model, and the folders of two adapters."""
    folder = tmp_path_factory.mktemp("llama")
    tiny = tiny_llama(folder / "base")
    (folder / "base" / "model.safetensors").unlink()
    tiny.model.save_pretrained(folder / "base", max_shard_size="30KB")
    adapters = {name: save_adapter(folder / name, tiny.model, seed=seed) for seed, name in enumerate("ab")}
    return folder / "base", tiny.model.eval().requires_grad_(False), adapters


@pytest.fixture(scope="module")
def client(llama):
    folder, _, adapters = llama
    specs = (AdapterSpec("a", str(adapters["a"])), AdapterSpec("gone", str(folder / "nowhere")))
    with interpd_client.local(ModelSpec(str(folder), name="tiny", adapters=specs)) as client:
        yield client


def logits(client, adapter, prompt="The cat sat"):
    with client.model("tiny").trace(prompt, adapter=adapter) as t:
        t.save(logits=t.logits)
    return torch.from_numpy(t.result["logits"]), t.result


def expected(llama, name, result):
    _, base, adapters = llama
    model = adapted_by_peft(base, adapters[name]) if name else base
    return model(torch.tensor([result.tokens[0].ids])).logits


@pytest.mark.slow
def test_a_model_serves_with_those_of_its_adapters_that_could_be_loaded(client, llama):
    assert [(info.name, bool(info.problem)) for info in client.adapters()] == [("a", False), ("gone", True)]
    (status,) = client.models()
    assert status.state == "ready"
    assert status.detail.startswith("adapter 'gone' was not loaded: ")
    for name in ("", "a"):
        value, result = logits(client, name)
        assert torch.equal(value, expected(llama, name, result))
        assert result.provenance.adapter == name
    with pytest.raises(AdapterNotFound, match=r"adapter 'gone' was not loaded: .* is neither a folder"):
        logits(client, "gone")


@pytest.mark.slow
def test_adapters_come_and_go_while_the_model_serves(client, llama, tmp_path):
    copy = shutil.copytree(llama[2]["b"], tmp_path / "mine")
    info = client.load_adapter(str(copy), "b")
    # what is loaded is the daemon's own, whatever becomes of the folder
    shutil.rmtree(copy)
    value, result = logits(client, "b")
    assert torch.equal(value, expected(llama, "b", result))
    assert (result.provenance.adapter_digest, "peft " in result.provenance.engine) == (info.digest, True)
    client.unload_adapter("b")
    with pytest.raises(AdapterNotFound, match="no adapter 'b'; it has 'a'"):
        logits(client, "b")
    with pytest.raises(AdapterNotFound):
        client.unload_adapter("b")


@pytest.mark.slow
def test_one_that_is_refused_leaves_the_model_as_it_was(client, llama, tmp_path):
    other = save_adapter(tmp_path / "gpt2", tiny_gpt2().model)
    with pytest.raises(InvalidRequest, match=r"it is for module 'transformer.*was trained on another model"):
        client.load_adapter(str(other), "odd")
    pickled = shutil.copytree(llama[2]["a"], tmp_path / "pickled")
    (pickled / WEIGHTS).rename(pickled / "adapter_model.bin")
    with pytest.raises(FeatureUnsupported, match=r"only 'adapter_model\.bin'"):
        client.load_adapter(str(pickled), "odd")
    resized = shutil.copytree(llama[2]["a"], tmp_path / "resized")
    extra = {"base_model.model.lm_head.weight": torch.ones(400, 24)}
    save_file({**load_file(resized / WEIGHTS), **extra}, resized / WEIGHTS)
    with pytest.raises(FeatureUnsupported, match="resized embeddings"):
        client.load_adapter(str(resized), "odd")
    value, result = logits(client, "")
    assert torch.equal(value, expected(llama, "", result))


@pytest.mark.slow
def test_a_chat_is_continued_with_an_adapter(client, llama):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    value, result = logits(client, "a", chat)
    assert result.tokens[0].text == "<s><system> Be brief.\n<user> Hi\n<assistant>"
    assert torch.equal(value, expected(llama, "a", result))
    text = client.model("tiny").generate_text(chat, max_new_tokens=3, adapter="a")
    assert text != client.model("tiny").generate_text(chat, max_new_tokens=3)


@pytest.mark.ray
async def test_a_worker_that_starts_again_has_the_adapters_that_were_loaded(make_bench, llama):
    bench = make_bench()
    await bench.load(replicas=2)
    await bench.until(lambda status: status.n_ready == 2)
    info = await bench.scheduler.load_adapter("fake", AdapterSpec("a", str(llama[2]["a"])))
    dead = bench.pool.links("fake")[0]
    dead.kill()
    await bench.until(lambda status: status.n_restarts == 1 and status.n_ready == 2)
    for link in bench.pool.links("fake"):
        assert (await link.describe()).adapters["a"].digest == info.digest
    end = await bench.run(adapter="a")
    assert end.provenance.model == "fake"
    await bench.scheduler.unload_adapter("fake", "a")
    for link in bench.pool.links("fake"):
        assert not (await link.describe()).adapters
