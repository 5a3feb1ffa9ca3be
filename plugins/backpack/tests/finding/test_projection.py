"""The projection baseline against a bare GPT-2 whose embedding layer is watched by hand."""

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

import interpd_client
from interpd.errors import CallerError
from interpd_backpack.finding.projection import projected_bias

WORDS = ("nurse", "doctor")
PROMPTS = ("The {} said that", "a {} and the {} was happy . The")
FACTORS = (0.0, 1.0, -0.5)


@pytest.fixture(scope="module")
def twin():
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = GPT2Config(
            n_embd=12, n_layer=2, n_head=2, n_positions=32, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1
        )
        model = GPT2LMHeadModel(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return model.double().eval().requires_grad_(False), tokenizer


def bias_again(twin, word, factor):
    model, tokenizer = twin
    he, she, own = (tokenizer.convert_tokens_to_ids(f"Ġ{one}") for one in ("he", "she", word))
    direction = model.transformer.wte.weight[she] - model.transformer.wte.weight[he]
    ratios = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer(prompt.replace("{}", word))["input_ids"]])

        def projected(_module, _arguments, output, ids=ids):
            share = (output @ direction / (direction @ direction))[..., None] * direction
            return output - (1 - factor) * (ids == own)[..., None] * share

        handle = model.transformer.wte.register_forward_hook(projected)
        p = model(ids).logits[0, -1].softmax(-1)
        handle.remove()
        ratios.append(max(float(p[he] / p[she]), float(p[she] / p[he])))
    return np.mean(ratios)


@pytest.mark.slow
def test_the_direction_is_taken_out_of_the_words_embedding_and_of_nothing_else(twin):
    with interpd_client.local(twin, name="twin") as client:
        found = projected_bias(client.model("twin"), WORDS, PROMPTS, factors=FACTORS)
        with pytest.raises(CallerError, match="a direction is between two"):
            projected_bias(client.model("twin"), WORDS, PROMPTS, (("he", "his"), "she"))
    wanted = [[bias_again(twin, word, factor) for factor in FACTORS] for word in WORDS]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert np.ptp(found, axis=1).min() > 1e-6
