"""Tokens come from anywhere: in a page they are text, in a terminal they are on one line."""

import dataclasses

import numpy as np
import pytest
from backpack_tests.reading.screen import shown

from interpd_backpack.explaining.contributions import Contributions
from interpd_backpack.reading.ranking import SenseRanking
from interpd_backpack.reading.senses import SenseWords
from interpd_backpack.views.colours import scale
from interpd_backpack.views.labels import label
from interpd_backpack.words import Word

EVIL = '<img src=x onerror="window.harmed=1">'
STRINGS = {0: EVIL, 1: " she", 2: "\n\u202e"}


@pytest.fixture
def results():
    """One of each kind, with a token that is a tag."""
    word, other = Word(EVIL, (0,), "refuse"), Word("she", (1,), "refuse")
    ids, scores = np.array([[[0, 1, 2]]]), np.array([[[2.0, -1.0, 0.5]]])
    senses = SenseWords(
        (word,), (0,), "dot", ids, scores, ids, -scores, np.ones((1, 1)), (word,), ids[..., :1], scores[..., :1], 3,
        STRINGS,
    )  # fmt: skip
    ranking = SenseRanking(f"senses that push {EVIL}", "dot", ids[0], scores[0], ids[0], -scores[0], STRINGS)
    table = np.array([[1.0, -2.0], [0.5, 0.25], [0.0, 3.0]])
    parts = Contributions(
        "difference", word, other, 2, (0, 1, 2), tuple(STRINGS.values()), STRINGS, table, table, table, 1.0, 0.5,
        3.25, 0.0, -1.0, 0.7,
    )  # fmt: skip
    return senses, ranking, parts


def test_no_token_is_a_tag(results):
    for one in results:
        page = one.to_html(page=True)
        assert "<img" not in page
        assert "&lt;img src=x" in page


def test_what_cannot_be_seen_is_a_sign(results):
    for one in results:
        for picture in (one.to_html(), shown(one)):
            assert "↵\\u202e" in picture
            assert "\u202e" not in picture
    assert [label(text) for text in (" he", "he ", "  ", "", "a\tb")] == ["␣he", "he␣", "␣␣", "∅", "a⇥b"]


def test_a_base_stream_is_a_row_of_its_own(results):
    *_, parts = results
    for picture in (parts.to_html(), shown(parts)):
        assert "elsewhere" in picture
        assert "and 0.5 from elsewhere" in picture
    without = dataclasses.replace(parts, base=0.0)
    assert "elsewhere" not in without.to_html()


def test_arrays_of_results_cannot_be_written_to(results):
    *_, parts = results
    with pytest.raises(ValueError, match="read-only"):
        parts.contributions[0, 0] = 1


def test_small_numbers_are_written_with_their_digits():
    assert scale([np.array([3e-4, -1e-4])]).written(-1e-4) == "-0.0001"
    assert scale([np.array([0.5])]).written(0.1234) == "0.123"
    assert scale([np.array([12.0])]).written(-0.001) == "0.00"
    assert scale([np.array([np.nan])]).written(float("nan")) == "–"
