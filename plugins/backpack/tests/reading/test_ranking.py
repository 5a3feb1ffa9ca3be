"""Senses of the whole vocabulary against a direction."""

import numpy as np
import pytest
import torch
from backpack_tests.reading.screen import shown, written

from interpd.errors import CallerError
from interpd.graph.run import Progress
from interpd_backpack.worker.reading import vectors


def ends(table, n):
    """(token, sense) of the first and the last ``n`` of ``[token sense]``."""
    order = table.flatten().argsort(descending=True).tolist()
    pairs = [divmod(at, table.shape[1]) for at in order]
    return pairs[:n], pairs[::-1][:n]


def pairs(found):
    return [(one.id, one.sense) for one in found]


@pytest.fixture
def small_chunks(monkeypatch):
    """The vocabulary, ten tokens at a time."""
    monkeypatch.setattr(vectors, "CHUNK_BYTES", 10 * 8 * 4 * 2 * 24)


@pytest.mark.parametrize("against", [None, "he"])
def test_reverse_is_a_column_of_all_senses_times_the_embedding(
    backpack, senses, directions, ids, against, small_chunks
):
    direction = directions[ids("she")] - (directions[ids(against)] if against else 0)
    table = senses @ direction
    found = backpack.reverse("she", against=against, top=6)
    most, least = ends(table, 6)
    assert pairs(found.top()) == most
    assert pairs(found.bottom()) == least
    for sense in range(4):
        best = table[:, sense].argsort(descending=True)[:6].tolist()
        assert [one.id for one in found.top(sense=sense)] == best
    np.testing.assert_allclose([one.score for one in found.top()], [table[pair] for pair in most], rtol=1e-6)


def test_reverse_by_cosine_and_as_a_share_of_what_a_sense_says_most(backpack, senses, directions, ids):
    direction = directions[ids("she")]
    cosines = torch.cosine_similarity(senses, direction.expand_as(senses), dim=-1)
    assert pairs(backpack.reverse("she", by="cosine").top(3)) == ends(cosines, 3)[0]
    shares = (senses @ direction) / (senses @ directions.T).amax(-1)
    assert pairs(backpack.reverse("she", scaled=True).top(3)) == ends(shares, 3)[0]
    with pytest.raises(CallerError, match="leave scaled out"):
        backpack.reverse("she", scaled=True, by="cosine")


@pytest.mark.parametrize("by", ["cosine", "dot"])
def test_nearest_senses_are_those_of_all_tokens_but_its_own(backpack, senses, ids, by):
    own = senses[ids("cat"), 2]
    table = torch.cosine_similarity(senses, own.expand_as(senses), dim=-1) if by == "cosine" else senses @ own
    table[ids("cat"), 2] = table.mean()
    found = backpack.nearest("cat", 2, by=by, top=5)
    assert (pairs(found.top()), pairs(found.bottom())) == ends(table, 5)


def test_a_ranking_is_shown_by_sense_and_over_all(backpack):
    found = backpack.reverse("she", against="he", top=2)
    page, screen = found.to_html(), shown(found)
    assert "senses that push ␣she rather than ␣he" in page
    assert "senses that push ␣she rather than ␣he" in screen
    for one in (*found.top(), *found.bottom()):
        assert written(one.score, found.most_scores, found.least_scores) in page
        assert written(one.score, found.most_scores, found.least_scores) in screen
    assert "By sense" in page
    assert len(found.rows()) == 2 * 2 * 4
    assert found.to_dict()["strings"][str(found.top()[0].id)] == found.top()[0].token
    with pytest.raises(CallerError, match="give top=3"):
        found.top(3)


def test_a_scan_says_how_far_it_is(backpack, ids, small_chunks):
    t = backpack._model.trace([ids("she")])
    t.save(out=t.op("backpack.reverse", target=ids("she")))
    events = list(t.submit().events())
    told = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in told] == list(range(0, 91, 10))
    assert {(event.total, event.message) for event in told} == {(91, "tokens")}
