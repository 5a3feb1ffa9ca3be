"""What senses say, against the whole of ``E C``."""

import json

import numpy as np
import pytest
import torch
from backpack_tests.reading.screen import shown

from interpd.errors import CallerError


def test_both_ends_are_those_of_the_whole_vocabulary(backpack, bare, senses, directions, ids):
    found = backpack.senses(["nurse", "Paris"], top=5)
    for row, word in enumerate(("nurse", "Paris")):
        for sense in range(4):
            scores = directions @ senses[ids(word), sense]
            order = scores.argsort(descending=True).tolist()
            assert [one.id for one in found.top(sense, row)] == order[:5]
            assert [one.id for one in found.bottom(sense, row)] == order[::-1][:5]
            said = [one.score for one in found.top(sense, row)]
            np.testing.assert_allclose(said, scores[order[:5]], rtol=1e-6)
            assert found.top(sense, row)[0].token == bare[1].decode(order[0])
            np.testing.assert_allclose(found.lengths[row, sense], senses[ids(word), sense].norm(), rtol=1e-6)


def test_cosines_are_without_lengths(backpack, senses, directions, ids):
    (best, *_) = backpack.senses("cat", senses=[2], by="cosine").top(2)
    cosines = torch.cosine_similarity(senses[ids("cat"), 2], directions, dim=-1)
    assert best.id == cosines.argmax()
    assert best.score == pytest.approx(float(cosines.max()), rel=1e-6)


def test_ranks_count_from_the_most_over_the_whole_vocabulary(backpack, senses, directions, ids):
    found = backpack.senses("nurse", senses=[3, 0], rank_of=["she", "he"])
    for sense in (0, 3):
        scores = directions @ senses[ids("nurse"), sense]
        for word in ("he", "she"):
            assert found.rank(word, sense) == 1 + int((scores > scores[ids(word)]).sum())
    assert found.among == len(directions)
    with pytest.raises(CallerError, match="'they' was not ranked; there are: she, he"):
        found.rank("they", 0)


def test_padding_has_no_place(backpack, directions):
    n = len(directions)
    found = backpack.senses("nurse", top=n + 2)
    assert sorted(one.id for one in found.top(0)) == list(range(n))
    assert found.most_ids[0, 0, n:].tolist() == [-1, -1]
    with pytest.raises(CallerError, match=f"ids has {n}, but tokens are 0 to {n - 1}"):
        backpack.senses(n)


@pytest.mark.parametrize("pieces", ["first", "last", "mean", "sum"])
def test_a_word_of_several_tokens_is_what_it_was_asked_to_be(backpack, senses, directions, ids, pieces):
    parts = senses[[ids("nurse"), len(directions) - 1]]
    expected = {"first": parts[0], "last": parts[1], "mean": parts.mean(0), "sum": parts.sum(0)}[pieces]
    found = backpack.senses("nurses", pieces=pieces)
    np.testing.assert_allclose(found.lengths[0], expected.norm(dim=-1), rtol=1e-6)
    assert found.top(1)[0].id == (directions @ expected[1]).argmax()
    assert (found.words[0].pieces, found.info["pieces"]) == (pieces, pieces)


def test_each_piece_is_a_row(backpack, senses, ids):
    found = backpack.senses("nurses", pieces="each")
    assert [word.text for word in found.words] == ["nurse", "s"]
    np.testing.assert_allclose(found.lengths[0], senses[ids("nurse")].norm(dim=-1), rtol=1e-6)
    with pytest.raises(CallerError, match="the word ' nurses' is 2 tokens"):
        backpack.senses("nurses")


def test_pictures_have_both_ends_and_the_ranks(backpack):
    found = backpack.senses("nurse", top=3, rank_of="she")
    page, screen = found.to_html(page=True), shown(found)
    for sense in range(4):
        for one in (*found.top(sense), *found.bottom(sense)):
            assert f'title="{one.score:.6g}"' in page
            assert one.token.strip() in screen
        rank = f"{found.rank('she', sense)}  ("
        assert rank in page
        assert rank in screen
    assert "says most" in page
    assert "says least" in page
    assert page.startswith("<!doctype html>")
    assert found._repr_html_() == found.to_html()
    assert repr(found) == "<what the senses of ␣nurse say of 91 tokens: logits at weight 1>"


def test_json_has_all_of_it(backpack):
    found = backpack.senses("nurse", top=95)
    content = json.loads(found.to_json())
    np.testing.assert_array_equal(content["most_ids"], found.most_ids)
    assert content["most_scores"][0][0][-1] is None
    assert content["info"]["model"] == "tiny"
    assert len(found.rows()) == 2 * 4 * 91


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"senses": [4]}, "sense 4 is not there: the model has senses 0 to 3"),
        ({"top": 0}, "top is 0, expected 1 or more"),
        ({"words": []}, "no word was given"),
        ({"rank_of": "robots", "pieces": "mean"}, "'robots' is 2 tokens .' robot', 's'., and one token is predicted"),
    ],
)
def test_what_cannot_be_is_refused(backpack, options, message):
    with pytest.raises(CallerError, match=message):
        backpack.senses(**{"words": "nurse", **options})
