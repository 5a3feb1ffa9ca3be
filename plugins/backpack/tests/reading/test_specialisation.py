"""How senses divide the work, against plain sums over tokens and positions."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from backpack_tests.reading.screen import shown

from interpd.errors import CallerError
from interpd_backpack.worker.reading import passes

TEXTS = ["The nurse said that she was tired .", "The cat sat in Paris", "a dog ran because he was late ."]
WORDS = ["nurse", "cat", "Paris", "she", "fish"]


@pytest.fixture(scope="module")
def found(backpack):
    return backpack.specialisation(TEXTS, words=WORDS, top=4)


def test_what_senses_say_is_the_mean_over_tokens(found, senses, directions, ids):
    own = senses[[ids(word) for word in WORDS]]
    scores = own @ directions.T
    p = scores.softmax(-1)
    np.testing.assert_allclose(found.entropy, -(p * p.log()).sum(-1).mean(0), rtol=1e-5)
    firsts, best = scores.argmax(-1), scores.topk(4).indices
    for sense in range(4):
        column = firsts[:, sense].tolist()
        assert found.distinct[sense] == len(set(column))
        assert found.top_shares[sense] == pytest.approx(max(map(column.count, column)) / 5)
        assert column.count(found.top_ids[sense]) == max(map(column.count, column))
        for other in range(4):
            shared = [len(set(one[sense].tolist()) & set(one[other].tolist())) / 4 for one in best]
            assert found.overlap[sense, other] == pytest.approx(np.mean(shared))


def test_variance_is_divided_among_the_senses(found, senses, ids):
    own = senses[[ids(word) for word in WORDS]].numpy()
    variances = own.var(0).sum(-1)
    np.testing.assert_allclose(found.variance, variances / variances.sum(), rtol=1e-5)
    assert found.explained.sum() == pytest.approx(1, abs=1e-5)
    whole = own.sum(1)
    without = [whole - own[:, sense] for sense in range(4)]
    # cov(C_l, S) = (var(S) + var(C_l) - var(S - C_l)) / 2
    expected = [
        (whole.var(0).sum() + own[:, sense].var(0).sum() - without[sense].var(0).sum()) / 2 / whole.var(0).sum()
        for sense in range(4)
    ]
    np.testing.assert_allclose(found.explained, expected, atol=1e-5)


@torch.no_grad()
def test_sense_weights_are_those_of_each_text_alone(found, bare, senses):
    model, tokenizer = bare
    mass, even, entropy, said, n = np.zeros((4, 94)), np.zeros(94), np.zeros(4), np.zeros(4), 0
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt").input_ids
        weights = model(ids).contextualization[0]
        for query in range(ids.shape[1]):
            row = weights[:, query, : query + 1].numpy()
            np.add.at(mass, (slice(None), ids[0, : query + 1].numpy()), row)
            np.add.at(even, ids[0, : query + 1].numpy(), 1 / (query + 1))
            entropy += -(row * np.log(np.maximum(row, 1e-300))).sum(1)
            mixed = np.einsum("lj,jld->ld", row, senses[ids[0, : query + 1]].numpy())
            said += np.linalg.norm(mixed, axis=1)
        n += ids.shape[1]
    np.testing.assert_allclose(found.mass, mass[:, found.types] / n, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.even, even[found.types] / n, rtol=1e-5)
    np.testing.assert_allclose(found.weight_entropy, entropy / n, rtol=1e-4)
    np.testing.assert_allclose(found.said, said / n, rtol=1e-4)
    assert found.mass.sum(1) == pytest.approx([1] * 4, abs=1e-5)


def test_passes_of_one_text_give_the_same(backpack, found, monkeypatch):
    monkeypatch.setattr(passes, "POSITIONS_AT_ONCE", 1)
    alone = backpack.specialisation(TEXTS, words=WORDS, top=4)
    np.testing.assert_allclose(alone.mass, found.mass, rtol=1e-5, atol=1e-8)


def test_bands_hold_all_of_the_mass(found):
    bands = found.bands(3)
    assert sum(band["n_types"] for band in bands) == len(found.types)
    assert sum(band["even"] for band in bands) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(sum(band["mass"] for band in bands), 1, atol=1e-5)
    assert [band["low"] for band in bands] == sorted(band["low"] for band in bands)
    assert all(one["high"] < other["low"] for one, other in pairwise(bands))


def test_senses_with_one_word_for_all_tokens_have_collapsed(found):
    one = dataclasses.replace(found, top_shares=np.array([0.9, 0.2, 0.51, 0.5]))
    assert one.collapsed() == (0, 2)
    assert one.collapsed(0.6) == (0,)
    assert one.to_dict()["collapsed"] == [0, 2]
    for picture in (one.to_html(), shown(one)):
        assert "collapsed, one first word for more than 50% of the tokens: 0 (" in picture


def test_a_report_without_texts_has_no_weights(backpack):
    found = backpack.specialisation()
    assert found.tokens == tuple(range(91))
    assert found.info["tokens"] == "evenly over the vocabulary"
    assert np.isnan(found.said).all()
    assert found.to_dict()["said"] == [None] * 4
    assert "Sense weights" not in found.to_html()
    assert "Sense weights" in backpack.specialisation(TEXTS[0]).to_html()
    assert len(found.rows()) == 4
    with pytest.raises(CallerError, match="no texts were given"):
        found.bands()
    with pytest.raises(CallerError, match="fewer than two"):
        backpack.specialisation(words=["cat"])
    with pytest.raises(CallerError, match="there are no texts; leave them out"):
        backpack.specialisation([])


def test_texts_longer_than_the_model_takes_are_read_in_pieces_and_counted(backpack, capsys):
    long = "The nurse said that she was tired . " * 5 + "The nurse said that she was tired ."
    found = backpack.specialisation([TEXTS[0], long], words=WORDS)
    assert found.n_texts == 2
    assert found.counts.sum() == (1 + 8) + (1 + 6 * 8)
    said = "1 text is longer than the 32 tokens that the model takes, and read in pieces"
    assert said in found.to_html()
    assert said in found.info["cut"]
    assert not backpack.specialisation(TEXTS, words=WORDS).info["cut"]
