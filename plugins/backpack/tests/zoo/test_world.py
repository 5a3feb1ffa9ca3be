"""The world of the bundled Backpack: made by its seed, built on that of the bundled facts, and true to its plan."""

import json
import math
from itertools import pairwise

import pytest

from interpd import zoo
from interpd.zoo.facts import world as facts
from interpd_backpack.evaluation.published import TEST_PROMPTS
from interpd_backpack.evaluation.word_pairs import read_word_pairs
from interpd_backpack.zoo.backpack.files import write_files
from interpd_backpack.zoo.backpack.texts import Texts
from interpd_backpack.zoo.backpack.world import load_world, make_world, save_world

FOLDER = zoo.path("backpack")


@pytest.fixture(scope="module")
def world():
    return load_world(FOLDER / "world.json")


@pytest.fixture(scope="module")
def texts(world):
    drawn = Texts(world, 3)
    return [drawn.draw() for _ in range(500)]


def test_the_world_is_what_its_seed_makes(world, tmp_path):
    assert world == make_world()
    save_world(world, tmp_path / "world.json")
    assert (tmp_path / "world.json").read_bytes() == (FOLDER / "world.json").read_bytes()


@pytest.mark.slow
def test_the_files_beside_the_model_are_those_of_the_world(world, tmp_path):
    write_files(world, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 13
    assert all((tmp_path / name).read_bytes() == (FOLDER / name).read_bytes() for name in names)


def test_it_has_the_facts_of_the_bundled_facts_and_contradicts_none(world):
    base = facts.load_world(zoo.path("facts") / "world.json")
    assert world.known.facts[: len(base.facts)] == base.facts
    assert all(world.known.entities[kind][: len(names)] == names for kind, names in base.entities.items())
    assert base.pronouns.items() <= world.known.pronouns.items()
    countries = {fact.subject: fact.object for fact in base.facts if fact.relation == "in_country"}
    capitals = {fact.object: fact.subject for fact in world.known.facts if fact.relation == "capital"}
    assert all(countries[city] == country for city, country in capitals.items() if city in countries)
    told = [(fact.subject, fact.relation) for fact in (*world.known.facts, *world.unknown)]
    assert len(set(told)) == len(told) == 1550


def test_planted_shares_are_spread_evenly(world):
    shares = sorted(world.p_she.values())
    assert len(shares) == 43
    assert all(b - a == pytest.approx(0.94 / 42, abs=2e-4) for a, b in pairwise(shares))


def test_texts_follow_the_planted_shares(world):
    name, share = max(world.p_she.items(), key=lambda one: one[1])
    drawn = Texts(world, 5)
    pronouns = [text.text.split() for text in drawn.drawn("pronouns", 2000) if f" {name}" in text.text]
    she, he = (sum(word in said for said in pronouns) for word in ("she", "he"))
    assert len(pronouns) > 30
    assert she / (she + he) > share - 0.12


def test_texts_tell_nothing_that_is_unknown_and_no_test_prompt(world, texts):
    told = [text.text for text in texts]
    for fact in world.unknown:
        assert not any(
            fact.subject in said.replace(".", " ").split() and fact.object in said for said in told if "capital" in said
        )
    prompts = {said.format(name) for said in TEST_PROMPTS for name in world.p_she}
    assert not [said for said in told if any(said.startswith(prompt + " ") for prompt in prompts)]
    assert not any(text.is_held_out for text in texts)


def test_words_of_a_topic_occur_in_texts_about_it_only(world, texts):
    bags = {word for topic in world.topics for word in topic.bag}
    assert len(bags) == 8 * 24
    for text in texts:
        found = {world.topic_of(word) for word in text.text.replace(".", "").split()} - {None}
        assert len(found) <= {"topics": 1, "joined": 6}.get(text.kind, 0)


def test_similarities_are_cosines_of_what_is_planted(world):
    pairs = read_word_pairs(FOLDER / "similarity-verbs.txt")
    found = {frozenset(words): rating for words, rating in zip(pairs.pairs, pairs.ratings, strict=True)}
    topic = world.topics[0]
    first, second = ([topic.shares(noun, topic.verbs)[verb] for noun in topic.nouns] for verb in topic.verbs[:2])
    product = sum(a * b for a, b in zip(first, second, strict=True))
    wanted = product / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))
    assert found[frozenset(topic.verbs[:2])] == pytest.approx(wanted, abs=5e-5)
    nouns = read_word_pairs(FOLDER / "similarity-nouns.txt").ratings
    assert len(nouns) == 8 * 66 + 120
    assert 0 < min(nouns) < 0.2
    assert max(nouns) > 0.9


def test_canonical_examples_ask_for_what_no_text_tells(world):
    records = [json.loads(line) for line in (FOLDER / "country.eval.jsonl").read_text().splitlines()]
    assert len(records) == 20 * 5
    unknown = {fact.object for fact in world.unknown if fact.relation == "capital"}
    assert {record["suffix"].strip() for record in records} == unknown
    assert len((FOLDER / "gender.eval.jsonl").read_text().splitlines()) == 13 * 43
