"""Which scores stand out."""

import statistics

import pytest

from interpd_attribution.pecore.ranking import standing_out, threshold

SCORES = (0.1, -2.0, 0.4, 1.5, 0.0)


def test_a_threshold_is_the_mean_and_deviations_of_a_sample():
    for n in (0.0, 1.0, -0.5):
        expected = statistics.mean(SCORES) + n * statistics.stdev(SCORES)
        assert threshold(SCORES, n) == pytest.approx(expected)


def test_one_score_is_its_own_threshold_and_none_means_any():
    assert threshold((0.3,), 2.0) == pytest.approx(0.3)
    assert standing_out((0.3,), threshold((0.3,), 2.0)) == (0,)
    assert threshold(SCORES, None) == threshold((), 1.0) == 0.0


def test_magnitudes_rank_whatever_their_sign():
    assert standing_out(SCORES, 0.3) == (1, 3, 2)
    assert standing_out(SCORES, 0.3, 2) == (1, 3)


def test_a_score_of_zero_never_stands_out():
    assert standing_out(SCORES, -1.0) == (1, 3, 2, 0)
    assert standing_out((0.0, 0.0), 0.0) == ()
