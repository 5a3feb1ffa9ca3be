"""Published checkpoints become folders that load as what they were."""

import hashlib
import json
import os
import pickle

import pytest
import torch
from backpack_tests.checkpoint.forms import as_published, as_safetensors, flash, published, published_settings
from backpack_tests.tiny import tiny_backpack
from safetensors import safe_open

from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_backpack.checkpoint.convert import convert
from interpd_backpack.checkpoint.reading import read_backpack

IDS = torch.tensor([[5, 9, 9, 40, 7]])


@pytest.fixture(scope="module")
def tiny():
    return tiny_backpack()


@pytest.fixture(scope="module")
def model(tiny):
    return tiny[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory, model):
    return as_published(tmp_path_factory.mktemp("models") / "published", model)


def logits(folder):
    settings = json.loads((folder / "config.json").read_text())
    model = read_backpack([folder / "model.safetensors"], settings, torch.float32, "the test's")
    with torch.no_grad():
        return model(IDS).logits


def same(folder, model):
    with torch.no_grad():
        torch.testing.assert_close(logits(folder), model(IDS).logits, rtol=0, atol=1e-6)


def test_the_published_pickle_becomes_a_folder_with_each_weight_once(source, tiny, tmp_path):
    model, tokenizer = tiny
    tokenizer.save_pretrained(tmp_path / "words")
    told = []
    out = tmp_path / "deep" / "out"
    made = convert(source, out, tokenizer=tmp_path / "words", report=told.append)
    digest = hashlib.sha256((source / "pytorch_model.bin").read_bytes()).hexdigest()
    assert f"sha256 of pytorch_model.bin: {digest}" in told
    assert (made.variant, made.has_tokenizer, made.sources) == ("published", True, {"pytorch_model.bin": digest})
    assert made.n_parameters == sum(weight.numel() for weight in model.parameters())
    same(out, model)
    with safe_open(out / "model.safetensors", "pt") as file:
        assert {*file.keys()} == {name for name, _ in model.named_parameters()}
    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("backpack", ["BackpackForCausalLM"])
    assert "auto_map" not in config
    assert json.loads((out / "conversion.json").read_text())["sources"] == {"pytorch_model.bin": digest}
    assert (out / "tokenizer.json").is_file()
    assert [*out.parent.iterdir()] == [out]


def test_a_file_is_converted_with_the_checksum_that_is_expected(source, model, tmp_path):
    file = source / "pytorch_model.bin"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    made = convert(file, tmp_path / "out", sha256=f"sha256:{digest.upper()}".replace("SHA", "sha"))
    assert not made.has_tokenizer
    same(tmp_path / "out", model)
    with pytest.raises(InvalidRequest, match=f"hashes to {digest}, expected 00ff: it is not the file"):
        convert(file, tmp_path / "other", sha256="00ff")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_other_numbers_stay_in_their_dtype(model, tmp_path):
    source = as_published(tmp_path / "half", tiny_backpack(torch.float16)[0])
    convert(source, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.slow
def test_levanters_weights_are_divided_by_the_number_of_senses(model, tmp_path):
    settings = published_settings(model, model_type="backpack-gpt2")
    settings.pop("sense_output_scale")
    source = as_safetensors(tmp_path / "levanter", published(model), settings)
    assert convert(source, tmp_path / "out").variant == "levanter"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["sense_output_scale"] == 0.25
    with torch.no_grad():
        torch.testing.assert_close(logits(tmp_path / "out") * 4, model(IDS).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"sense_block_scale": 1, "sense_intermediate_scale": 1}, marks=pytest.mark.slow)]
)
def test_checkpoints_of_the_papers_training_code_are_turned_and_renamed(changes, tmp_path):
    model, _ = tiny_backpack(**changes)
    state = {f"model.{name}": weight for name, weight in flash(model).items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    with pytest.raises(InvalidRequest, match="give a config with 'n_head'"):
        convert(tmp_path / "last.ckpt", tmp_path / "out")
    settings = {"n_head": 3, "bos_token_id": 0, "eos_token_id": 1}
    made = convert(tmp_path / "last.ckpt", tmp_path / "out", config=settings)
    assert made.variant == "flash"
    same(tmp_path / "out", model)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["n_layer"], config["num_senses"], config["n_positions"]) == (3, 4, 32)


def test_a_copy_of_the_embeddings_that_differs_is_refused(tmp_path, model):
    state = flash(model)
    state["transformer.embeddings.word_embeddings.weight"] = state["lm_head.weight"] + 1
    torch.save(state, tmp_path / "last.ckpt")
    with pytest.raises(InvalidRequest, match=r"is another copy of 'backpack.gpt2_model.wte.weight'"):
        convert(tmp_path / "last.ckpt", tmp_path / "out", config={"n_head": 3})


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def test_a_pickle_that_holds_more_than_tensors_is_not_read(tmp_path, model):
    torch.save({**published(model), "x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FeatureUnsupported, match="holds more than tensors, which would run as code"):
        convert(tmp_path / "pytorch_model.bin", tmp_path / "out")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(FeatureUnsupported, match="holds more than tensors"):
        convert(tmp_path / "plain.bin", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"pytorch_model.bin", "plain.bin"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("backpack.sense_network.ln.bias"), "lacks 'backpack.sense_network.ln.bias' of the 56 weights"),
        (
            lambda s: s.pop("backpack.gpt2_model.h.1.attn.c_attn.bias"),
            "lacks 'backpack.gpt2_model.h.1.attn.c_attn.bias'",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), "holds 'extra', which a Backpack of this config does not have"),
        (
            lambda s: s.update({"backpack.sense_weight_net.c_attn.weight": torch.zeros(24, 48)}),
            r"'backpack.sense_weight_net.c_attn.weight': \[24, 48\], expected \[48, 24\]",
        ),
        (
            lambda s: s.update({"lm_head.weight": torch.zeros(94, 24)}),
            "'lm_head.weight' are one weight in a Backpack, but",
        ),
        (
            lambda s: s.update({"backpack.position_embeddings.weight": torch.zeros(32, 24)}),
            "'backpack.position_embeddings.weight' are one weight",
        ),
        (
            lambda s: s.update({"backpack.sense_network.ln.bias": torch.zeros(24, dtype=torch.int64)}),
            "'backpack.sense_network.ln.bias' is torch.int64, expected floating numbers",
        ),
        (lambda s: s.update({"backpack.sense_network.ln.bias": "x"}), "holds something else than tensors"),
    ],
)
def test_weights_that_are_not_exactly_a_backpacks_are_refused_by_name(tmp_path, model, change, message):
    state = published(model)
    change(state)
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(published_settings(model)))
    with pytest.raises(InvalidRequest, match=message):
        convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_config_that_the_weights_contradict_is_refused(source, tmp_path, model):
    with pytest.raises(InvalidRequest, match="the config says num_senses = 8, but the weights 4"):
        convert(source, tmp_path / "out", config=published_settings(model, num_senses=8))


def test_what_is_no_backpack_is_refused_with_what_it_is(tmp_path):
    torch.save({"transformer.wte.weight": torch.zeros(3, 2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidRequest, match=r"is no Backpack: .* but 'transformer.wte.weight'; a GPT-2"):
        convert(tmp_path, tmp_path / "out")
    torch.save({"backpack.sense_vector_layer.ff_1.c_fc.weight": torch.zeros(3, 2)}, tmp_path / "nano.pt")
    with pytest.raises(FeatureUnsupported, match="nanoBackpackLM, which computes something else"):
        convert(tmp_path / "nano.pt", tmp_path / "out")


def test_nothing_is_overwritten_and_nothing_is_guessed(source, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidRequest, match="exists already"):
        convert(source, tmp_path / "there")
    with pytest.raises(InvalidRequest, match="neither a file nor a folder"):
        convert(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InvalidRequest, match="holds no weights"):
        convert(tmp_path / "there", tmp_path / "out")
    (tmp_path / "cut.bin").write_bytes((source / "pytorch_model.bin").read_bytes()[:5000])
    with pytest.raises(InvalidRequest, match=r"cut\.bin' cannot be read"):
        convert(tmp_path / "cut.bin", tmp_path / "out")


def test_a_tokenizer_of_more_tokens_than_rows_is_anothers(source, tmp_path, tiny):
    _, tokenizer = tiny
    tokenizer.add_tokens([f"extra{number}" for number in range(20)])
    tokenizer.save_pretrained(tmp_path / "words")
    with pytest.raises(InvalidRequest, match="has 111 tokens, the Backpack 94"):
        convert(source, tmp_path / "out", tokenizer=tmp_path / "words")
