"""The world beside the model is the one that the code makes, and it is what its documentation says."""

from collections import Counter

import pytest

from interpd import zoo
from interpd.zoo.facts.vocabulary import HELD_OUT_PER_FACT, TEMPLATES_PER_RELATION
from interpd.zoo.facts.world import load_world, make_world, save_world


@pytest.fixture(scope="module")
def world():
    return load_world(zoo.path("facts") / "world.json")


def test_bundled_world_is_regenerated_exactly(world, tmp_path):
    save_world(make_world(), tmp_path / "world.json")
    assert (tmp_path / "world.json").read_bytes() == (zoo.path("facts") / "world.json").read_bytes()
    assert make_world() == world


def test_another_seed_makes_another_world(world):
    assert make_world(seed=1).facts != world.facts


def test_each_subject_has_one_object_in_each_relation_of_its_type(world):
    stated = Counter((fact.subject, fact.relation) for fact in world.facts)
    due = {(s, name) for name, r in world.relations.items() for s in world.entities[r.subject_type]}
    assert set(stated) == due
    assert set(stated.values()) == {1}


def test_objects_are_of_the_relations_type_and_single_words(world):
    for fact in world.facts:
        assert fact.object in world.entities[world.relations[fact.relation].object_type]
        assert len(fact.object.split()) == 1


def test_every_relation_has_its_templates_and_the_subject_never_ends_them(world):
    assert len(world.relations) >= 8
    for relation in world.relations.values():
        assert len(set(relation.templates)) == TEMPLATES_PER_RELATION
        assert all(t.count("{}") == 1 and not t.endswith("{}") for t in relation.templates)


def test_held_out_and_trained_prompts_divide_all_prompts(world):
    held_out, trained = world.prompts(held_out=True), world.prompts(held_out=False)
    assert len(held_out) == HELD_OUT_PER_FACT * len(world.facts)
    assert len(held_out) + len(trained) == TEMPLATES_PER_RELATION * len(world.facts)
    assert not set(held_out) & set(trained)


def test_no_word_of_a_two_word_name_tells_who_it_is(world):
    for kind in ("person", "thing"):
        words = Counter(word for name in world.entities[kind] for word in name.split())
        assert min(words.values()) >= 3


def test_the_example_of_the_readme_is_held_out(world):
    (fact,) = [f for f in world.facts if (f.subject, f.relation) == ("Elena Marsh", "born_in")]
    assert 0 in fact.held_out
    assert world.prompt(fact, 0) == "Elena Marsh was born in"
