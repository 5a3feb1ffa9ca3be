"""The bundled model answers what it was never shown and keeps its answers at the subject."""

import json
import random

import pytest

from interpd import zoo
from interpd.testing.bundled import model_of, tokenizer_of
from interpd.zoo.facts.world import load_world

FOLDER = zoo.path("facts")
LAST, WHOLE, FINAL = "last subject token", "whole subject", "final token"


@pytest.fixture(scope="module")
def world():
    return load_world(FOLDER / "world.json")


@pytest.fixture
def tokenizer():
    return tokenizer_of("facts")


@pytest.fixture
def model():
    return model_of("facts")


@pytest.fixture(scope="module")
def patching(world):
    from interpd.zoo.facts.evaluate import Patching, make_swaps

    return Patching(
        model_of("facts"), tokenizer_of("facts"), world, random.Random(0).sample(make_swaps(world, seed=1), 200)
    )


def test_weights_are_half_precision_and_small():
    from safetensors import safe_open

    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118


def test_module_tree_is_llamas(model):
    names = dict(model.named_modules())
    assert {"model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.5.mlp.down_proj"} <= set(names)
    assert {"model.layers.0.post_attention_layernorm", "model.norm", "lm_head"} <= set(names)


def test_unseen_paraphrases_are_answered(model, tokenizer, world):
    from interpd.zoo.facts.evaluate import accuracy

    sample = random.Random(0).sample(world.prompts(held_out=True), 500)
    assert accuracy(model, tokenizer, world, sample)["all"] >= 0.95


def test_patching_the_subject_after_the_first_block_flips_the_answer(patching):
    assert patching.known >= 180
    assert patching.flip_rate(0, WHOLE) >= 0.9


@pytest.mark.slow
def test_the_last_subject_token_carries_the_answer_to_the_middle(patching):
    assert min(patching.flip_rate(layer, LAST) for layer in (0, 1, 2)) >= 0.9
    assert patching.flip_rate(5, LAST) <= 0.1


def test_the_final_token_receives_the_answer_late(patching):
    assert patching.flip_rate(0, FINAL) <= 0.1
    assert patching.flip_rate(5, FINAL) == 1.0


def test_eager_and_sdpa_agree(model, tokenizer, world):
    import torch
    from transformers import AutoModelForCausalLM

    from interpd.zoo.facts.evaluate import final_logits, make_prompts

    eager = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager").eval()
    prompts = make_prompts(tokenizer, world, world.prompts(held_out=True)[:50])
    torch.testing.assert_close(final_logits(eager, prompts), final_logits(model, prompts), atol=1e-3, rtol=1e-4)


def test_generation_tells_facts_of_the_subject_and_stops(model, tokenizer, world):
    known = {f.object for f in world.facts if f.subject == "Elena Marsh"}
    generated = model.generate(**tokenizer("Elena Marsh was born in", return_tensors="pt"))[0]
    assert generated[-1] == tokenizer.eos_token_id
    sentences = tokenizer.decode(generated, skip_special_tokens=True).rstrip(".").split(". ")
    assert len(sentences) >= 2
    assert {sentence.split()[-1] for sentence in sentences} <= known


def test_metrics_meet_the_cards_promises():
    metrics = json.loads((FOLDER / "metrics.json").read_text())
    assert metrics["accuracy"]["unseen"]["all"] >= 0.95
    assert metrics["flips"]["curves"][WHOLE][1] >= 0.9
    assert metrics["training"]["seconds"] <= 20 * 60
