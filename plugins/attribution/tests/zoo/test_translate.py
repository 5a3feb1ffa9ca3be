"""The bundled translation model: loads, translates what it was never shown, and has the bias that was planted."""

import json
import math
import random
from itertools import pairwise

import pytest

from interpd import zoo
from interpd.testing.bundled import model_of, tokenizer_of
from interpd_attribution.reproduce.rank import kendall
from interpd_attribution.zoo.translate.world import load_world, make_world, save_world

FOLDER = zoo.path("translate")


@pytest.fixture(scope="module")
def world():
    return load_world(FOLDER / "world.json")


@pytest.fixture
def tokenizer():
    return tokenizer_of("translate")


@pytest.fixture
def model():
    return model_of("translate")


def test_the_world_is_what_its_seed_makes(world, tmp_path):
    assert world == make_world()
    save_world(world, tmp_path / "world.json")
    assert (tmp_path / "world.json").read_bytes() == (FOLDER / "world.json").read_bytes()


def test_planted_shares_are_spread_over_0_to_1(world):
    shares = sorted(one.p_she for one in world.occupations)
    assert len(shares) == 48
    assert all(b - a == pytest.approx(1 / 48, abs=2e-4) for a, b in pairwise(shares))


def test_sentences_say_who_is_meant(world):
    doctor = world.occupations[0]
    open_one, cued = world.template(doctor, "she"), world.with_cue(doctor, "he", ("baba", "father"))
    assert (open_one.source, open_one.target) == ("O bir doktor", "She is a doctor.")
    assert (open_one.other, open_one.decided_by) == ("He is a doctor.", "occupation")
    assert (cued.source, cued.target) == ("O bir doktor ve iyi bir baba", "He is a doctor and a good father.")
    assert (cued.other, cued.decided_by) == ("", "cue")


def test_articles_fit_the_word_behind_them(world):
    engineer = next(one for one in world.occupations if one.target == "engineer")
    assert world.template(engineer, "he").target == "He is an engineer."


def test_the_tokenizer_is_that_of_the_script_and_decodes_exactly(world, tokenizer):
    from interpd_attribution.zoo.translate.tokenizer import make_tokenizer

    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()
    rng = random.Random(0)
    for sentence in (world.draw(rng) for _ in range(50)):
        for text in (sentence.source, sentence.target):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_sentences_that_it_was_never_shown_are_translated(model, tokenizer, world):
    from interpd_attribution.zoo.translate.evaluate import quality

    found = quality(model, tokenizer, world.held_out(60, seed=7))
    assert found["exact"] > 0.95
    assert found["bleu"] > 0.95


def test_its_pronouns_have_the_planted_bias(model, tokenizer, world):
    from interpd_attribution.zoo.translate.evaluate import shares_of_she

    found = shares_of_she(model, tokenizer, world)
    assert kendall(found, [one.p_she for one in world.occupations]).tau > 0.95


def test_training_shows_nothing_that_is_held_out(world, tokenizer):
    from interpd_attribution.zoo.translate.corpus import Corpus

    tested = {one.source for one in world.held_out(100, seed=1)}
    drawn = Corpus(world, tokenizer, 0).batch(200).input_ids
    assert not tested & set(tokenizer.batch_decode(drawn, skip_special_tokens=True))


def test_bleu_counts_what_is_known_once():
    from interpd_attribution.zoo.translate.evaluate import bleu

    assert bleu(["a b c d e"], [["a b c d e", "x"]]) == pytest.approx(1.0)
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples
    assert bleu(["a b c d x e"], [["a b c d e f"]]) == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    # words are all right, but two of six are missing
    assert bleu(["a b c d"], [["a b c d e f"]]) == pytest.approx(math.exp(-0.5))


def test_the_card_is_that_of_the_metrics(world, tmp_path):
    from interpd_attribution.zoo.translate.card import write_card

    metrics = json.loads((FOLDER / "metrics.json").read_text())
    write_card(tmp_path, metrics, world)
    assert (tmp_path / "README.md").read_text() == (FOLDER / "README.md").read_text()
    assert metrics["held_out"]["exact"] > 0.95
    assert metrics["training"]["seconds"] <= 15 * 60
    assert (FOLDER / "model.safetensors").stat().st_size < 3_000_000


def test_it_is_served_by_its_name():
    import interpd_client

    with interpd_client.local("translate") as client:
        with client.model("translate").generate("O bir doktor ve iyi bir anne", max_new_tokens=16) as g:
            pass
        assert g.result.text == "She is a doctor and a good mother."
