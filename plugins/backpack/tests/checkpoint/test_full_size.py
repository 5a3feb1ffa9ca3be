"""The size of the published model, with random weights."""

import json

import pytest
import torch
from backpack_tests.checkpoint.forms import ALIASES, as_published, as_safetensors, published, published_settings

from interpd_backpack.checkpoint.convert import convert
from interpd_backpack.checkpoint.reading import read_backpack
from interpd_backpack.model import BackpackConfig, BackpackForCausalLM

IDS = torch.tensor([[50256, 17, 17, 50263]])


def size(module):
    return sum(weight.numel() for weight in module.parameters())


def test_its_parts_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        model = BackpackForCausalLM(BackpackConfig())
    parts = (model, model.backpack.gpt2_model, model.backpack.sense_network, model.backpack.sense_weight_net)
    assert [*map(size, parts)] == [170_083_584, 124_051_968, 44_850_432, 1_181_184]
    assert len(model.state_dict()) == 164 + 1
    assert model.backpack.sense_weight_net.c_attn.weight.shape == (1536, 768)
    assert model.backpack.sense_network.final_mlp.c_proj.weight.shape == (3072, 12288)


def test_what_a_config_does_not_say_is_as_published():
    assert {
        "vocab_size": 50264,
        "n_positions": 512,
        "num_senses": 16,
        "sense_intermediate_scale": 4,
        "sense_output_scale": 1.0,
        "scale_attn_by_inverse_layer_idx": True,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
    }.items() <= BackpackConfig().to_dict().items()


@pytest.mark.slow
@torch.no_grad()
def test_it_is_converted_loaded_saved_and_loaded_again_by_every_name(tmp_path):
    torch.manual_seed(0)
    model = BackpackForCausalLM(BackpackConfig()).eval()
    expected = model(IDS).logits
    source = as_published(tmp_path / "published", model)
    # as the file of the hub: the tied weights once, the masks as one byte each
    assert (source / "pytorch_model.bin").stat().st_size == pytest.approx(4 * 170_083_584 + 12 * 512 * 512, rel=1e-3)
    assert len(published(model)) == 191

    assert convert(source, tmp_path / "ours").n_parameters == 170_083_584
    (source / "pytorch_model.bin").unlink()
    same(tmp_path / "ours", expected)
    read(tmp_path / "ours").save_pretrained(tmp_path / "again")
    same(tmp_path / "again", expected)
    state = published(model)
    fewest = {name: weight for name, weight in state.items() if name not in ALIASES.values()}
    fewest.pop("backpack.word_embeddings.weight")
    for names in (state, fewest):
        same(as_safetensors(tmp_path / "theirs", names, published_settings(model)), expected)


def read(folder):
    settings = json.loads((folder / "config.json").read_text())
    return read_backpack([folder / "model.safetensors"], settings, torch.float32, "the test's")


def same(folder, expected):
    torch.testing.assert_close(read(folder)(IDS).logits, expected, rtol=0, atol=1e-4)
