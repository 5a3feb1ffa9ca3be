"""Numbers of samples against their definitions."""

import math

import numpy as np
import pytest

from interpd_backpack.evaluation.statistics import distinct, pearson, perplexity, ranks, share_in, spearman, words_of


def test_equal_values_share_the_mean_of_their_ranks():
    values = np.random.default_rng(0).integers(0, 5, 40).astype(float)
    expected = [(values < one).sum() + ((values == one).sum() + 1) / 2 for one in values]
    assert ranks(values).tolist() == expected


def test_without_ties_the_rank_correlation_is_that_of_the_textbook():
    rng = np.random.default_rng(1)
    one, other = rng.permutation(30), rng.permutation(30)
    difference = ((one - other) ** 2).sum()
    assert spearman(one, other) == pytest.approx(1 - 6 * difference / (30 * (30**2 - 1)))
    assert spearman(one, np.exp(other / 7)) == pytest.approx(spearman(one, other))


def test_with_ties_it_is_the_correlation_of_the_ranks():
    # scipy.stats.spearmanr([1, 2, 2, 4, 5], [5, 6, 7, 8, 7]).statistic
    assert spearman(np.array([1.0, 2, 2, 4, 5]), np.array([5.0, 6, 7, 8, 7])) == pytest.approx(0.7631578947368421)


def test_what_does_not_vary_has_no_correlation():
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))
    assert math.isnan(pearson(np.ones(1), np.ones(1)))


def test_perplexity_is_the_exponential_of_the_mean():
    assert perplexity(np.log([2.0, 8.0])) == pytest.approx(4.0)
    assert math.isnan(perplexity(np.zeros(0)))


def test_words_are_counted_whatever_their_case():
    assert words_of("Don't stop: the well-known Dog, 3 dogs") == [
        "don't",
        "stop",
        "the",
        "well-known",
        "dog",
        "3",
        "dogs",
    ]
    assert share_in(["The Dog ran", "a cat"], ("dog", "CAT")) == pytest.approx(2 / 5)
    assert math.isnan(share_in(["..."], ("dog",)))


def test_distinct_counts_n_grams_of_all_texts_together():
    texts = [(1, 2, 1, 2), (1, 2)]
    assert distinct(texts, 1) == pytest.approx(2 / 6)
    assert distinct(texts, 2) == pytest.approx(2 / 4)
    assert math.isnan(distinct(texts, 5))
