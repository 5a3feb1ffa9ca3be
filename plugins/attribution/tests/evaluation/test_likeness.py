"""Likeness of tables of scores."""

import numpy as np
import pytest

from interpd_attribution.evaluation.likeness import rank_correlation, relative_change

SCORES = np.array([[1.0, 3.0], [2.0, 4.0], [3.0, np.nan], [5.0, np.nan]])


def test_a_change_is_measured_against_the_scores():
    changed = SCORES + np.array([[0.0, 0.0], [0.0, 5.0], [3.0, np.nan], [4.0, np.nan]])
    assert relative_change(SCORES, changed) == pytest.approx([5 / np.sqrt(39), 1.0])


def test_ranks_count_and_not_sizes():
    assert rank_correlation(SCORES, np.exp(SCORES)) == pytest.approx([1.0, 1.0])
    assert rank_correlation(SCORES, -SCORES) == pytest.approx([-1.0, -1.0])


def test_a_known_correlation_with_ties():
    one, other = np.array([[1.0], [2.0], [2.0], [4.0]]), np.array([[3.0], [1.0], [2.0], [4.0]])
    # by hand: ranks 0 1.5 1.5 3 and 2 0 1 3; covariance 1.5, variances 4.5 and 5
    assert rank_correlation(one, other) == pytest.approx([1.5 / np.sqrt(4.5 * 5)])


def test_constant_scores_have_no_ranks():
    assert np.isnan(rank_correlation(np.ones((3, 1)), np.arange(3.0)[:, None])).all()
    assert np.isnan(relative_change(np.zeros((3, 1)), np.ones((3, 1)))).all()


def test_the_largest_change_is_that_of_captum():
    # gradients of sin(x @ w) + (x @ v)**2 at ones and at two noisy inputs; the number is captum.metrics.sensitivity_max
    scores = [1.28648299, -0.40160997, -0.88487302, 2.10432199, 0.24377097, 0.63135601]
    noisy = [
        [1.43423729, -0.36673473, -1.06750255, 2.37198754, 0.17854119, 0.75277417],
        [1.17264834, -0.40010934, -0.77253900, 1.90720356, 0.26137424, 0.55494040],
    ]
    changes = [relative_change(np.array(scores)[:, None], np.array(one)[:, None])[0] for one in noisy]
    assert max(changes) == pytest.approx(0.14015583801446732, rel=1e-6)
