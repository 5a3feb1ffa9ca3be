"""The bundled Backpack and its twin: they load, and are as good and as biased as their cards say."""

import json

import pytest

from interpd import zoo

FOLDERS = {name: zoo.path(name) for name in ("backpack", "backpack_twin")}
METRICS = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in FOLDERS.items()}


@pytest.fixture(scope="module")
def world():
    from interpd_backpack.zoo.backpack.world import load_world

    return load_world(FOLDERS["backpack"] / "world.json")


@pytest.fixture(scope="module")
def models():
    import torch
    from transformers import GPT2LMHeadModel

    from interpd_backpack.model import BackpackForCausalLM

    kinds = {"backpack": BackpackForCausalLM, "backpack_twin": GPT2LMHeadModel}
    return {name: kind.from_pretrained(FOLDERS[name], dtype=torch.float32).eval() for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(FOLDERS["backpack"])


def test_they_are_small_and_the_twin_is_the_transformer_inside(models):
    assert all((folder / "model.safetensors").stat().st_size < 8_000_000 for folder in FOLDERS.values())
    inside = {name: value.shape for name, value in models["backpack"].backpack.gpt2_model.named_parameters()}
    assert {name: value.shape for name, value in models["backpack_twin"].transformer.named_parameters()} == inside
    for name, model in models.items():
        assert model.num_parameters() == METRICS[name]["model"]["parameters"]


def test_the_tokenizers_are_that_of_the_script_and_decode_exactly(world, tokenizer):
    from interpd_backpack.zoo.backpack.texts import Texts
    from interpd_backpack.zoo.backpack.tokenizer import make_tokenizer

    assert tokenizer.get_vocab() == make_tokenizer(world).get_vocab()
    one, other = ((folder / "tokenizer.json").read_bytes() for folder in FOLDERS.values())
    assert one == other
    assert [json.loads(one)[setting] for setting in ("truncation", "padding")] == [None, None]
    drawn = Texts(world, 4)
    for text in (drawn.draw().text for _ in range(100)):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_cards_are_those_of_the_metrics(world, tmp_path):
    from interpd_backpack.zoo.backpack.card import write_cards

    for name, folder in FOLDERS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_bytes((folder / "metrics.json").read_bytes())
    write_cards(tmp_path / "backpack", tmp_path / "backpack_twin", world)
    for name, folder in FOLDERS.items():
        assert (tmp_path / name / "README.md").read_text() == (folder / "README.md").read_text()


def test_the_card_says_what_evaluate_measures_otherwise():
    card = (FOLDERS["backpack"] / "README.md").read_text()
    assert "bias on the 40 occupations of the paper, here on all 43" in card
    assert "perplexity on the 300 texts of `held-out.jsonl`, here on 320 others" in card


@pytest.mark.parametrize("name", ["backpack", pytest.param("backpack_twin", marks=pytest.mark.slow)])
def test_their_pronouns_follow_the_planted_shares_as_the_card_says(models, tokenizer, world, name):
    from interpd_backpack.zoo.backpack.evaluate import bias

    found = bias(models[name], tokenizer, world)
    assert found == pytest.approx(METRICS[name]["bias"], rel=1e-3)
    assert found["pearson"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_they_know_what_the_cards_say(models, tokenizer, world, name):
    from interpd_backpack.zoo.backpack.evaluate import accuracy, perplexities, topics

    model, said = models[name], METRICS[name]
    assert perplexities(model, tokenizer, world) == pytest.approx(said["perplexity"], rel=1e-3)
    assert topics(model, tokenizer, world) == pytest.approx(said["topics"], rel=1e-3)
    unseen = accuracy(model, tokenizer, world, world.known.prompts(held_out=True))
    assert unseen == pytest.approx(said["accuracy"]["unseen"], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_they_are_served_by_their_names(name, models, tokenizer, world):
    import torch

    import interpd_client

    prompt = "The Macra is made by"
    with interpd_client.local(name, plugins=("backpack",)) as client:
        with client.model(name).generate(prompt, max_new_tokens=1) as g:
            pass
        assert g.result.text == f" {world.fact('Macra', 'made_by').object}"
        with client.model(name).trace(prompt) as t:
            t.save(logits=t.logits)
    with torch.no_grad():
        wanted = models[name](**tokenizer(prompt, return_tensors="pt")).logits
    assert torch.tensor(t.result["logits"]).allclose(wanted, atol=2e-2)


@pytest.mark.slow
def test_its_senses_do_what_the_card_says(models, tokenizer, world):
    from interpd_backpack.zoo.backpack.senses import described_senses

    found, said = described_senses(models["backpack"], tokenizer, world), METRICS["backpack"]["senses"]
    assert found["pronoun_sense"] == said["pronoun_sense"]
    assert found["pronouns"] == pytest.approx(said["pronouns"], abs=1e-3)
    assert found["words"] == said["words"]
    assert found["similarity"] == [pytest.approx(both, abs=1e-3) for both in said["similarity"]]
