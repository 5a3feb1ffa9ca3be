"""The tiny models: seeded, saved as a user would, and deaf to nothing."""

import pytest
import torch

from interpd.testing.tiny_models import save_tiny, tiny_gpt2, tiny_llama, tiny_model


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = tiny_gpt2(seed=1), tiny_gpt2(seed=1), tiny_gpt2(seed=2)
    weight = "transformer.h.0.attn.c_attn.weight"
    assert torch.equal(first.model.get_parameter(weight), again.model.get_parameter(weight))
    assert not torch.equal(first.model.get_parameter(weight), other.model.get_parameter(weight))


def test_making_a_model_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    tiny_llama()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_saved_model_holds_safetensors_and_a_tokenizer(tmp_path, architecture):
    folder = save_tiny(tmp_path / architecture, architecture)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("text", ["Elena Marsh was born in", "né à Lisbonne 你好", ""])
def test_the_tokenizer_takes_any_text(text):
    tokenizer = tiny_model("llama").tokenizer
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text
