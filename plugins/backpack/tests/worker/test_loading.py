"""Backpacks load from folders as any model does, whatever they call themselves."""

import copy
import json

import pytest
import torch
from backpack_tests.checkpoint.forms import as_published, as_safetensors, published, published_settings
from backpack_tests.tiny import tiny_backpack

import interpd_backpack.worker
import interpd_client
from interpd.errors import InvalidRequest
from interpd.sdk import LoadedModel, ModelSpec
from interpd.testing.tiny_models import save_tiny, tiny_model
from interpd_backpack.model import retrofit
from interpd_backpack.worker.loading import loaded

PLUGINS = {"backpack": interpd_backpack.worker}
IDS = torch.tensor([[5, 9, 9, 40, 7]])


@pytest.fixture(scope="module")
def tiny():
    return tiny_backpack()


@pytest.fixture(scope="module")
def model(tiny):
    return tiny[0]


@pytest.fixture(scope="module")
def expected(model):
    with torch.no_grad():
        return model(IDS).logits[0]


def served(folder, prompt):
    """(logits of a served model, what it is); one token more than it has positions is refused."""
    with interpd_client.local(str(folder), plugins=PLUGINS) as client:
        (info,) = client.models()
        served = client.model(info.name)
        with served.trace(prompt) as t:
            t.save(logits=t.logits)
        most = served.manifest.model.max_positions
        with pytest.raises(interpd_client.CallerError, match=f"{most + 1} tokens, .* takes at most {most}"):
            served.trace([5] * (most + 1)).submit()
        return torch.tensor(t.result["logits"][0]), served.manifest


@pytest.mark.slow
def test_a_saved_folder_is_served_with_its_senses(tiny, expected, tmp_path):
    model, tokenizer = tiny
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    logits, manifest = served(tmp_path, IDS[0].tolist())
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert {"senses", "sense_weights", "logits"} <= {*manifest.sites}
    assert manifest.model.revision.startswith("sha256:")
    assert manifest.model.architecture == "BackpackForCausalLM"
    assert manifest.model.max_positions == 32


def test_how_texts_end_is_read_with_the_model(model, tmp_path):
    own = copy.deepcopy(model)
    own.generation_config.eos_token_id = [1, 7]
    own.save_pretrained(tmp_path)
    spec, files = ModelSpec(str(tmp_path)), Files(tmp_path)
    assert loaded(spec, files).model.generation_config.eos_token_id == [1, 7]
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(InvalidRequest, match=r"generation_config\.json in .* cannot be read"):
        loaded(spec, files)


class Files:
    """What the daemon gives: here a folder, and models as they are."""

    dtype = torch.float32

    def __init__(self, folder):
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = (folder / "model.safetensors",)

    def finished(self, model):
        return LoadedModel(model, None, "")


@pytest.mark.slow
def test_a_published_folder_without_code_is_known_by_its_weights(model, expected, tmp_path):
    settings = published_settings(model)
    settings.pop("num_senses")
    folder = as_safetensors(tmp_path / "model", published(model), settings)
    logits, manifest = served(folder, IDS[0].tolist())
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert "senses" in manifest.sites


@pytest.mark.slow
def test_a_gpt2_without_senses_stays_one(tmp_path):
    _, manifest = served(save_tiny(tmp_path / "tiny"), IDS[0].tolist())
    assert manifest.model.architecture == "GPT2LMHeadModel"


@pytest.mark.parametrize("weights", ["pickle", "safetensors"])
def test_a_folder_as_published_is_refused_with_the_way_to_convert_it(model, tmp_path, weights):
    folder = as_published(tmp_path / "model", model)
    if weights == "safetensors":
        as_safetensors(folder, published(model), {})
        (folder / "config.json").write_text(json.dumps(published_settings(model)))
    with pytest.raises(interpd_client.CallerError, match=f"auto_map.*interpd backpack convert {folder} NEW_FOLDER"):
        served(folder, [5])


def test_without_the_plugin_the_error_names_it(model, tmp_path):
    model.save_pretrained(tmp_path / "ours")
    as_safetensors(tmp_path / "theirs", published(model), published_settings(model))
    for name in ("ours", "theirs"):
        with pytest.raises(
            interpd_client.CallerError, match=r"name that plugin \(--plugin NAME; installed: .*backpack"
        ):
            interpd_client.local(str(tmp_path / name)).close()


def test_weights_that_lack_something_are_refused(model, tmp_path):
    state = published(model)
    state.pop("backpack.sense_network.block.mlp.c_fc.bias")
    folder = as_safetensors(tmp_path / "model", state, published_settings(model))
    with pytest.raises(interpd_client.CallerError, match=r"lacks 'backpack\.sense_network\.block\.mlp\.c_fc\.bias'"):
        served(folder, [5])


@pytest.mark.slow
def test_a_retrofit_is_served(tmp_path):
    model = retrofit(tiny_model("llama").model, num_senses=5)
    with torch.no_grad():
        model.backpack.gate.fill_(0.5)
        expected = model(IDS).logits[0]
    model.save_pretrained(tmp_path)
    logits, _ = served(tmp_path, IDS[0].tolist())
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(interpd_client.CallerError, match="code of its own"):
        served(tmp_path, [5])
