"""Cosines of senses, against numpy."""

import numpy as np
import pytest
from backpack_tests.reading.screen import shown, written

from interpd.errors import CallerError

PAIRS = [("nurse", "doctor"), ("cat", "robots"), ("cat", "cat")]


@pytest.fixture
def found(backpack):
    return backpack.similarity(PAIRS, pieces="mean")


def cosine(one, other):
    return one @ other / np.sqrt((one @ one) * (other @ other))


def test_each_measure_is_its_formula(found, senses, directions, ids):
    table = senses.numpy()
    robots = table[[ids("robot"), len(directions) - 1]].mean(0)
    for row, pair in enumerate(PAIRS):
        one, other = (robots if word == "robots" else table[ids(word)] for word in pair)
        all_pairs = np.array([[cosine(left, right) for right in other] for left in one])
        expected = {
            "min": np.diag(all_pairs).min(),
            "max": np.diag(all_pairs).max(),
            "mean": np.diag(all_pairs).mean(),
            "flat": cosine(one.ravel(), other.ravel()),
            "max_pair": all_pairs.max(),
            "min_pair": all_pairs.min(),
            **{f"sense {sense}": all_pairs[sense, sense] for sense in range(4)},
        }
        for name, value in found.measures().items():
            np.testing.assert_allclose(value[row], expected[name], atol=1e-6)
        assert all_pairs[tuple(found.largest_senses[row])] == all_pairs.max()
        assert all_pairs[tuple(found.smallest_senses[row])] == all_pairs.min()
    np.testing.assert_allclose(found.measure("sense 1")[2], 1.0, atol=1e-6)


def test_who_is_compared_is_said(found):
    assert [(one.text, other.text) for one, other in found.pairs] == PAIRS
    assert found.info["pieces"] == "mean"
    page, screen = found.to_html(), shown(found)
    assert "robots: mean of its 2 tokens" in page
    assert "robots: mean of its 2 tokens" in screen
    senses = found.largest_senses[0]
    assert f"sense {senses[0]} of ␣nurse and {senses[1]} of ␣doctor" in page
    assert written(found.flat[0], found.by_sense, found.largest) in page
    assert written(found.flat[0], found.by_sense, found.largest) in screen
    assert found.rows()[0]["sense 2"] == pytest.approx(float(found.by_sense[0, 2]))


@pytest.mark.parametrize(
    ("pairs", "pieces", "message"),
    [
        ([], "refuse", "pairs are two words each"),
        (["ab"], "refuse", "got 'ab'"),
        ([("cat", "robots")], "refuse", "the word ' robots' is 2 tokens"),
        ([("cat", "robots")], "each", "compare the tokens themselves"),
    ],
)
def test_what_is_no_pair_is_refused(backpack, pairs, pieces, message):
    with pytest.raises(CallerError, match=message):
        backpack.similarity(pairs, pieces=pieces)


def test_what_is_no_measure_is_refused(found):
    for name in ("sense 4", "cosine"):
        with pytest.raises(CallerError, match=f"there is no measure '{name}'.*'sense 0' to 'sense 3'"):
            found.measure(name)
