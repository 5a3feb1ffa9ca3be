"""Topic control on a tiny model: texts, their measures, and classifiers that others bring."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from interpd.errors import Broken, CallerError
from interpd_backpack.evaluation import classifiers, topics
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.classifiers import classifier_names, find_classifier, scores_of
from interpd_backpack.evaluation.statistics import words_of
from interpd_backpack.evaluation.topics import TopicSettings, measure_topics

BAGS = {"pets": ("cat", "dog", "plumber"), "culture": ("film", "music")}


class NaiveBayes:
    """A real classifier, if a small one: words counted in a few texts, with one more of each."""

    def __init__(self, texts):
        self.counts = {
            topic: Counter(word for text in some for word in words_of(text)) for topic, some in texts.items()
        }
        self.words = {word for counts in self.counts.values() for word in counts}

    def __call__(self, texts):
        return [self.scores(words_of(text)) for text in texts]

    def scores(self, words):
        logs = {
            topic: sum(
                math.log((counts[word] + 1) / (counts.total() + len(self.words)))
                for word in words
                if word in self.words
            )
            for topic, counts in self.counts.items()
        }
        most = max(logs.values())
        total = sum(math.exp(value - most) for value in logs.values())
        return {topic: math.exp(value - most) / total for topic, value in logs.items()}


classify = NaiveBayes({"pets": ["the cat and the dog ran", "a cat"], "culture": ["a film and music", "the film"]})


@pytest.fixture
def pushed(monkeypatch):
    """Stands for the edits: the logits of the bag's tokens rise by the strength, out of reach for all others."""

    def put_in_force(model, edit):
        (operation,) = edit.operations
        ids = [token.id for token in operation.bag]

        def put(t):
            for id_ in ids:
                t.logits[:, :, id_] = t.logits[:, :, id_] + 1000.0 * operation.strength

        return put

    monkeypatch.setattr(topics, "put_in_force", put_in_force)


SETTINGS = TopicSettings(bags=BAGS, strengths=(1,), n_samples=3, max_new_tokens=6, classifier=classify)


def by_place(found):
    return {(row.topic, row.variant): row for row in found.rows}


def test_an_edit_that_says_nothing_but_the_bag_has_every_word_in_it(here, pushed):
    found = measure_topics(Asking(here.model), SETTINGS)
    rows = by_place(found)
    assert list(rows) == [(topic, variant) for topic in BAGS for variant in ("unedited", "strength 1")]
    for topic, bag in BAGS.items():
        assert rows[topic, "strength 1"].bag_share == 1.0
        assert set(words_of(rows[topic, "strength 1"].samples[0].text)) <= set(bag)
        assert rows[topic, "strength 1"].success == 1.0
        texts = [one.text for one in rows[topic, "unedited"].samples]
        assert rows[topic, "unedited"].success == np.mean([one[topic] > 0.5 for one in classify(texts)])
    assert found.left_out == {"pets": ("plumber",)}
    assert found.mean("strength 1", "bag share (%)") == 100
    assert "pets: the vocabulary cannot express plumber" in found.section().notes


@pytest.mark.slow
def test_perplexity_of_texts_is_under_the_model_as_it_is(here, pushed, logits):
    found = measure_topics(Asking(here.model), SETTINGS)
    for row in found.rows:
        scores = []
        for one in row.samples:
            logs = logits((0, *one.ids)).log_softmax(-1)[:-1]
            scores += logs.gather(-1, torch.tensor(one.ids)[:, None])[:, 0].tolist()
        assert row.perplexity == pytest.approx(math.exp(-np.mean(scores)), rel=1e-9)
        grams = [pair for one in row.samples for pair in zip(one.ids, one.ids[1:], strict=False)]
        assert row.distinct[1] == len(set(grams)) / len(grams)


@pytest.mark.slow
def test_texts_of_one_number_draw_the_same_and_others_do_not(here, monkeypatch):
    monkeypatch.setattr(topics, "put_in_force", lambda model, edit: lambda t: None)
    told = []
    asking = Asking(here.model, told=lambda *args: told.append(args))
    rows = by_place(measure_topics(asking, SETTINGS))
    assert rows["pets", "unedited"].samples == rows["pets", "strength 1"].samples
    assert len({one.ids for one in rows["pets", "unedited"].samples}) == 3
    assert (54, 54, "tokens of 9 texts") in told


@pytest.mark.slow
def test_an_edit_that_is_given_has_a_row_in_each_topic(here, pushed, put):
    found = measure_topics(Asking(here.model, put), SETTINGS)
    assert found.variants == ("unedited", "strength 1", "edited")
    rows = by_place(found)
    assert rows["pets", "edited"].samples == rows["culture", "edited"].samples
    assert rows["pets", "edited"].samples != rows["pets", "unedited"].samples


@pytest.mark.slow
def test_texts_are_as_long_as_the_model_has_room_for(here, pushed):
    found = measure_topics(Asking(here.model), TopicSettings(bags=BAGS, strengths=(), n_samples=1))
    assert [len(one.ids) for row in found.rows for one in row.samples] == [31, 31]


@pytest.mark.slow
def test_another_model_may_judge(here, pushed, logits):
    found = measure_topics(Asking(here.model), TopicSettings(**{**vars(SETTINGS), "judge": here.model}))
    row = by_place(found)["pets", "strength 1"]
    scores = []
    for one in row.samples:
        ids = here.tokenizer(one.text)["input_ids"]
        logs = logits(ids).log_softmax(-1)[:-1]
        scores += logs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    assert row.judged == pytest.approx(math.exp(-np.mean(scores)), rel=1e-9)


@pytest.mark.parametrize(
    ("bags", "said"),
    [({}, "bags are"), ({"pets": "cat"}, "'pets' is no list"), ({"pets": ["plumber"]}, "no word of the bag 'pets'")],
)
def test_bags_of_nothing_are_refused(here, bags, said):
    with pytest.raises(CallerError, match=said):
        measure_topics(Asking(here.model), TopicSettings(bags=bags))


def test_installed_classifiers_are_found_by_their_names(tmp_path, monkeypatch):
    (tmp_path / "tiny_topics.py").write_text(
        "def classify(texts):\n    return [{'pets': float('cat' in text)} for text in texts]\n"
    )
    info = tmp_path / "tiny_topics-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-topics\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{classifiers.GROUP}]\ntiny = tiny_topics:classify\nbroken = tiny_topics:missing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert set(classifier_names()) >= {"tiny", "broken"}
    assert scores_of(find_classifier("tiny"), ["a cat", "a dog"], "pets").tolist() == [1.0, 0.0]
    with pytest.raises(CallerError, match=r"no classifier 'huge' is installed.*tiny"):
        find_classifier("huge")
    with pytest.raises(Broken, match=r"'broken' \(tiny_topics:missing\): AttributeError"):
        find_classifier("broken")


def test_answers_of_a_classifier_that_are_none_are_refused():
    with pytest.raises(CallerError, match="knows no topic 'sports', but pets"):
        scores_of(lambda texts: [{"pets": 0.5}] * len(texts), ["a"], "sports")
    with pytest.raises(Broken, match="1 answers for 2 texts"):
        scores_of(lambda texts: [{"pets": 0.5}], ["a", "b"], "pets")
    with pytest.raises(Broken, match="3 to 3, expected 0 to 1"):
        scores_of(lambda texts: [{"pets": 3}], ["a"], "pets")
    with pytest.raises(Broken, match="ZeroDivisionError"):
        scores_of(lambda texts: 1 / 0, ["a"], "pets")


def test_progress_is_told_in_tokens_from_before_the_first_one(here, pushed):
    told = []
    settings = TopicSettings(bags=BAGS, strengths=(1,), n_samples=2, max_new_tokens=3)
    measure_topics(Asking(here.model, told=lambda *args: told.append(args)), settings)
    drawn = [done for done, total, what in told if (total, what) == (18, "tokens of 6 texts")]
    assert drawn[0] == 0
    assert drawn == sorted(drawn)
    assert set(drawn) == set(range(19))
